"""What only a patch needs is loaded by the first one, whatever happened to the files since."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent.live.conftest import run
from zdpatch.agent.protocol import Apply, Revert, Stage, Status

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = pytest.mark.e2e


CHEAP = """
import json, sys, time
before = set(sys.modules)
from zdpatch import agent
print(json.dumps(sorted({m.partition(".")[0] for m in set(sys.modules) - before})))
"""


def test_importing_costs_nothing() -> None:
    """`from zdpatch import agent` loads no library at all."""
    loaded = set(run(CHEAP))
    assert not loaded & {"zmq", "sqlite3", "msgspec", "cryptography", "logging", "dataclasses"}


LEAN = """
import json, sys
from zdpatch import agent
agent.start(app="shop", home={home!r})
print(json.dumps(sorted(sys.modules)))
"""


def test_starting_imports_no_more_than_it_needs(tmp_path: Path) -> None:
    """No event loop, no second ZeroMQ flavour, no terminal library."""
    loaded = set(run(LEAN.format(home=str(tmp_path / "home"))))
    heavy = {
        *("asyncio", "zmq.asyncio", "zmq.auth", "importlib.metadata", "email", "ssl", "psutil"),
        *("click", "rich", "securesystemslib", "multiprocessing", "shutil", "tempfile"),
    }
    assert not loaded & heavy


def test_what_only_a_patch_needs_is_loaded_by_the_first(site: Site) -> None:
    """Neither engine nor cryptography before a bundle comes, nothing more after the first."""
    child = site.start()
    operator = site.operator(child)
    operator.ask(Status())
    late = "[m for m in sys.modules if m.startswith(('zdpatch.patcher.engine', 'cryptography'))]"
    assert child.tell(late) == []
    digest, raw = site.fix()
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    assert child.tell("cart.vat()") == 2
    child.tell("before = set(sys.modules)")
    operator.ask(Revert(digest))
    operator.ask(Apply(digest, confirm=True))
    assert child.tell("sorted(set(sys.modules) - before)") == []


LIBRARIES = ("zdpatch", "cryptography", "_cffi_backend", "msgspec")


def copy_libraries(place: Path) -> None:
    """The packages of the agent and what it uses, as an installation of their own."""
    place.mkdir()
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        if spec.submodule_search_locations:
            shutil.copytree(origin.parent, place / name)
        else:
            shutil.copy(origin, place)


@pytest.mark.parametrize("bytecode", ["without", "with"])
def test_a_deploy_removes_the_files(site: Site, bytecode: str) -> None:
    """A process whose libraries are gone takes a patch, from what was kept since its start."""
    lib = site.root / "lib"
    copy_libraries(lib)
    env = {"PYTHONPATH": str(lib), "PYTHONPYCACHEPREFIX": "", "PYTHONDONTWRITEBYTECODE": "1"}
    if bytecode == "with":
        command = [sys.executable, "-m", "compileall", "-q", str(lib)]
        subprocess.run(command, env={**os.environ, **env}, check=True)
    child = site.start(env=env)
    assert child.tell("sys.modules['zdpatch'].__file__").startswith(str(lib))
    child.door()
    shutil.rmtree(lib)
    digest, raw = site.fix()
    operator = site.operator(child)
    operator.ask(Stage(digest), raw)
    assert operator.ask(Apply(digest, confirm=True)).code == "ok"
    assert child.tell("cart.vat()") == 2


def test_a_patch_opens_no_file_of_the_installation(site: Site) -> None:
    """What was kept is complete: neither a library nor the standard library is read again."""
    lib = site.root / "lib"
    copy_libraries(lib)
    child = site.start(env={"PYTHONPATH": str(lib)})
    child.door()
    child.tell("opened = []")
    child.tell("look = lambda event, args: event == 'open' and opened.append(str(args[0]))")
    child.tell("sys.addaudithook(look)")
    digest, raw = site.fix()
    operator = site.operator(child)
    assert operator.ask(Stage(digest), raw).code == "ok"
    child.tell("later.need(later.ENGINE) and None")
    parts = (str(lib), str(Path(os.__file__).parent))
    # extension modules are opened by their paths as long as they are the same files
    opened = [one for one in child.tell("opened") if one.startswith(parts) and ".so" not in one]
    assert opened == []


def test_scopes_open_no_file_of_the_installation(site: Site) -> None:
    """A process that has its first request after a deploy has scopes from what was kept, too."""
    lib = site.root / "lib"
    copy_libraries(lib)
    child = site.start(env={"PYTHONPATH": str(lib)})
    child.door()
    assert child.tell("[m for m in sys.modules if 'scopes' in m or m.endswith('.carry')]") == []
    shutil.rmtree(lib)
    child.tell("from zdpatch import agent")
    made = "[type(agent.wsgi(print)).__name__, type(agent.asgi(print)).__name__]"
    assert child.tell(made) == ["ScopedWsgi", "ScopedAsgi"]
    child.tell("entered = agent.request('ann')")
    child.tell("entered.__enter__()")
    child.tell("scopes = sys.modules['zdpatch.patcher.scopes']")
    assert child.tell("[scope.key for scope in scopes.older(9)]") == ["ann"]
    child.tell("import os; read, write = os.pipe()")
    # the forking thread goes on in the child, and so does its request
    child.tell("import threading; gate = threading.Event(); other = agent.request('bob')")
    child.tell("hold = lambda: (other.__enter__(), gate.wait())")
    child.tell("threading.Thread(target=hold, daemon=True).start()")
    child.tell("seen = lambda: ','.join(sorted(s.key for s in scopes.older(9))).encode()")
    child.tell("pid = os.fork() or (os.write(write, seen()), os._exit(0))")
    assert child.tell("os.read(read, 99).decode()") == "ann"
    assert child.tell("seen().decode()") == "ann,bob"
    child.tell("entered.__exit__(None, None, None)")


def test_what_was_kept_is_lost(site: Site) -> None:
    """Files gone and descriptors closed: an error that says so, and a process that serves."""
    lib = site.root / "lib"
    copy_libraries(lib)
    child = site.start(env={"PYTHONPATH": str(lib)})
    child.door()
    shutil.rmtree(lib)
    link = "os.path.realpath(f'/proc/self/fd/{n}')"
    child.tell(
        f"[os.close(int(n)) for n in os.listdir('/proc/self/fd') if '.so' in {link}] and None"
    )
    digest, raw = site.fix()
    operator = site.operator(child)
    answer = operator.ask(Stage(digest), raw)
    assert (answer.code, "cryptography" in answer.cause) == ("ZDP-216", True)
    assert child.tell("cart.vat()") == 1
    assert operator.ask(Status()).code == "ok"
