"""The base comes out of a running process only where it explains what that process runs."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.command import announced, zdpatch

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

OLD = "RATE = 2\nTABLE = {'a': 1}\n\n\ndef price(net):\n    return net\n"
NEW = OLD.replace("return net", "return net * RATE")
NEWER = OLD.replace("return net", "return net * RATE + 1")
SERVE = """
import sys

from shop import cart
from zdpatch import agent

agent.start(app="shop", now=True)
print("up", flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Shop:
    """A folder with trees, a home, and services that run one of the trees."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = int(time.time())
        self._services: list[subprocess.Popen[str]] = []
        for tree, cart in (("old", OLD), ("new", NEW), ("newer", NEWER)):
            self.write(tree, cart)
        self.run("keygen", "ci.key", "--no-passphrase")
        self.run("trust", "init", "--key", "ci.pub")

    def write(self, tree: str, cart: str) -> Path:
        """A tree with the package `shop`; `shop.late` is never imported."""
        folder = self.path / tree / "shop"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("")
        (folder / "late.py").write_text("LATE = 1\n")
        (folder / "cart.py").write_text(cart)
        return folder

    def serve(self, where: str, *flags: str) -> subprocess.Popen[str]:
        """Start a service; it has an agent when this returns."""
        env = {**os.environ, "ZDPATCH_HOME": str(self.path / "h")}
        env["PYTHONPATH"] = os.pathsep.join([str(self.path / where), env.get("PYTHONPATH", "")])
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        service = subprocess.Popen(
            [sys.executable, *flags, "-c", SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        self._services.append(service)
        assert service.stdout is not None
        assert service.stdout.readline() == "up\n"
        announced(self.path, service.pid)
        return service

    def ask(self, service: subprocess.Popen[str], line: str) -> str:
        """What an expression is in a service."""
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write(f"{line}\n")
        service.stdin.flush()
        return service.stdout.readline().strip()

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run `zdpatch`; its stdout."""
        return zdpatch(self.path, *arguments, code=code, SOURCE_DATE_EPOCH=str(self.now))

    def build(
        self, *more: str, to: str = "new", out: str = "fix", select: str = "", code: int = 0
    ) -> dict[str, Any]:
        """Build from what runs."""
        text = self.run(
            *("build", "--from", f"agent:{select}", "--to", to, "--app", "shop", "--id", out),
            *("-o", f"{out}.zdp", "--sign", "ci.key", "--json", *more),
            code=code,
        )
        found: dict[str, Any] = json.loads(text)
        error: dict[str, Any] = found.get("error", found)
        return error

    def push(self, name: str = "fix") -> None:
        """Push and keep."""
        self.run("push", f"{name}.zdp", "--yes", "--confirm")

    def close(self) -> None:
        """End the services."""
        for service in self._services:
            service.kill()
            service.communicate()


@pytest.fixture
def shop() -> Iterator[Shop]:
    """A place in a short path."""
    path = Path(tempfile.mkdtemp(prefix="zdp-", dir="/tmp"))
    made = Shop(path)
    yield made
    made.close()
    shutil.rmtree(path)


@pytest.mark.parametrize("flags", [(), ("-O",), ("-OO",)])
def test_from_what_runs(shop: Shop, flags: tuple[str, ...]) -> None:
    """The base is the process's own source; the bundle says whose, and goes in."""
    service = shop.serve("old", *flags)
    built = shop.build()
    host = os.uname().nodename
    assert built["modules"] == ["shop.cart"]
    assert built["origin"]["base"].startswith("agent:shop ")
    assert built["origin"]["base"].endswith(f"pid {service.pid} on {host}")
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_the_same_process_gives_the_same_bytes(shop: Shop) -> None:
    """Two builds from one process are one, byte for byte."""
    shop.serve("old")
    made: list[bytes] = []
    for _ in range(2):
        shop.build("--seq", "1")
        made.append((shop.path / "fix.zdp").read_bytes())
    assert made[0] == made[1]


def test_on_top_of_a_patch(shop: Shop) -> None:
    """Where a patch is active, its source is the base, whatever the disk says."""
    service = shop.serve("old")
    shop.build()
    shop.push()
    shop.build(to="newer", out="fix-2")
    assert "net * RATE\n" in shop.run("diff", "fix-2.zdp")
    shop.push("fix-2")
    assert shop.ask(service, "cart.price(5)") == "11"


@pytest.mark.parametrize(
    ("deployed", "says"),
    [
        (OLD.replace("return net", "return 0"), "runs code that differs"),
        (OLD.replace("RATE = 2", "RATE = 3"), "RATE is 2 here and 3 in the source"),
        (OLD.replace("'a': 1", "'a': 2"), "TABLE is {'a': 1} here"),
    ],
)
def test_a_deploy_replaced_the_file(shop: Shop, deployed: str, says: str) -> None:
    """A file that was replaced is no base, also when values alone differ; a given source may be."""
    shop.write("run", OLD)
    service = shop.serve("run")
    shop.write("run", deployed)
    error = shop.build(code=4)
    assert error["code"] == "ZDP-201"
    assert says in error["cause"]
    assert "--base-source" in error["next"]
    assert shop.build("--base-source", "newer", code=4)["code"] == "ZDP-201"
    shop.build("--base-source", "old")
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_a_deploy_put_the_same_there(shop: Shop) -> None:
    """A file that was written again with what runs is a base."""
    shop.write("run", OLD)
    service = shop.serve("run")
    shop.write("run", OLD + "# deployed again\n")
    shop.build()
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_lines_that_were_kept(shop: Shop) -> None:
    """What a traceback has read before the file was replaced is found, and compared."""
    shop.write("run", OLD)
    service = shop.serve("run")
    shop.ask(service, "len(__import__('linecache').getlines(cart.__file__))")
    shop.write("run", OLD.replace("return net", "return 0"))
    shop.build()
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_compiled_files_only(shop: Shop) -> None:
    """A process without sources takes a given one, if that is what it was compiled from."""
    folder = shop.write("run", OLD)
    compileall.compile_dir(folder, quiet=2, legacy=True)
    for source in folder.glob("*.py"):
        source.unlink()
    service = shop.serve("run")
    error = shop.build(code=2)
    assert error["code"] == "ZDP-004"
    assert "only compiled code" in error["cause"]
    wrong = shop.build("--base-source", "newer", code=4)
    assert wrong["code"] == "ZDP-201"
    assert wrong["verdicts"][0]["path"] == "shop.cart:price"
    shop.build("--base-source", "old")
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_a_package_in_a_zip(shop: Shop) -> None:
    """The source of a zipped package is in its archive."""
    with zipfile.ZipFile(shop.path / "app.zip", "w") as archive:
        for path in (shop.path / "old").rglob("*.py"):
            archive.write(path, path.relative_to(shop.path / "old"))
    service = shop.serve("app.zip")
    assert "app.zip" in shop.ask(service, "cart.__file__")
    shop.build()
    shop.push()
    assert shop.ask(service, "cart.price(5)") == "10"


def test_several_processes(shop: Shop) -> None:
    """All that are selected must run the same; one of them may be named."""
    shop.write("run", OLD)
    shop.serve("run")
    shop.write("run", OLD.replace("return net", "return -net"))
    other = shop.serve("run")
    error = shop.build("--base-source", "old", code=2)
    assert str(other.pid) in error["cause"]
    shop.build(select=f"pid={other.pid}")
    assert shop.build(select="pid=1", code=5)["code"] == "ZDP-401"


def test_a_monkeypatched_process(shop: Shop) -> None:
    """What somebody replaced at run time is in no source: the place is named."""
    service = shop.serve("old")
    shop.ask(service, "setattr(cart, 'price', lambda net: 0)")
    error = shop.build(code=4)
    assert error["verdicts"][0]["path"] == "shop.cart:price"
    assert "replaced at run time" in error["cause"]


def test_what_is_not_in_the_new_source(shop: Shop) -> None:
    """A module that is loaded, and that the new source has not, is left alone and told."""
    (shop.path / "old/shop/extra.py").write_text("X = 1\n")
    service = shop.serve("old")
    shop.ask(service, "__import__('shop.extra')")
    assert shop.build()["modules"] == ["shop.cart"]
    assert shop.build("--base-source", "old", "--only", "shop.cart")["modules"] == ["shop.cart"]


def test_spare_sources_need_an_agent(shop: Shop) -> None:
    """--base-source without an agent is usage."""
    text = shop.run(
        *("build", "--from", "old", "--to", "new", "--app", "shop", "--base-source", "old"),
        "--json",
        code=2,
    )
    assert json.loads(text)["error"]["code"] == "ZDP-001"


def test_what_was_replaced_is_the_operators_to_name(shop: Shop) -> None:
    """What the patch changes is not left alone; `--replace` puts the base's back, on record."""
    service = shop.serve("old")
    shop.build()
    held = "cart.__dict__.setdefault('held', cart.price)"
    shop.ask(service, f"[{held}, setattr(cart, 'price', lambda net: 'theirs')]")
    push = ("push", "fix.zdp", "--yes", "--confirm", "--json")
    assert json.loads(shop.run(*push, code=4))["error"]["code"] == "ZDP-201"
    adopted = shop.run(*push, "--adopt", "shop.cart:price", code=4)
    assert "--replace shop.cart:price" in adopted
    assert shop.ask(service, "cart.price(5)") == "theirs"
    shop.run(*push, "--replace", "shop.cart:price")
    assert shop.ask(service, "cart.price(5)") == "10"
    assert "replaced shop.cart:price" in shop.run("audit", "--json")
    shop.run("rollback", "fix")
    assert shop.ask(service, "cart.price(5)") == "theirs"


def test_an_adopted_wrapper(shop: Shop) -> None:
    """A wrapper stays round the patched function; a process that starts later gets the patch."""
    service = shop.serve("old")
    shop.build()
    shop.ask(service, "(lambda f: setattr(cart, 'price', lambda net: -f(net)))(cart.price)")
    pushed = shop.run(
        *("push", "fix.zdp", "--yes", "--confirm", "--json", "--adopt", "shop.cart:price")
    )
    assert "shop.cart:price is left alone" in pushed
    assert shop.ask(service, "cart.price(5)") == "-10"
    assert "adopted shop.cart:price" in shop.run("audit", "--json")
    assert shop.ask(shop.serve("old"), "cart.price(5)") == "10"


@pytest.mark.parametrize("option", ["--adopt", "--replace"])
def test_paths_that_are_none(shop: Shop, option: str) -> None:
    """A path names a module and what is in it."""
    (shop.path / "fix.zdp").write_bytes(b"")
    text = shop.run("push", "fix.zdp", "--yes", option, "price", "--json", code=2)
    assert json.loads(text)["error"]["code"] == "ZDP-001"
