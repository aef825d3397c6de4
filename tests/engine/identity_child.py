"""One question about what really runs: a module made in an unusual way, and a patch for it.

A program: CASE, paths to adopt and paths to replace on the command line; prints what became of
the patch as JSON.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import py_compile
import shutil
import sys
import sysconfig
import tempfile
import types
import zipfile
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from zdpatch.agent import local
from zdpatch.patcher.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

OLD = '''
"""A shop."""
RATE = 2

def f():
    """What it is."""
    assert RATE
    return 1

def g():
    return 2

class C:
    def m(self):
        return 1

    def n(self):
        return 2
'''
NEW = OLD.replace("return 2", "return 20")
HERE = Path(tempfile.mkdtemp(prefix="identity-"))
SOURCE = HERE / "m.py"
never: Callable[..., None] = lambda *_: None  # noqa: E731 - a hook that does nothing


def as_usual() -> None:
    """A file."""
    SOURCE.write_text(OLD)


def compiled_only() -> None:
    """A `.pyc` without its source."""
    as_usual()
    py_compile.compile(str(SOURCE), cfile=str(HERE / "m.pyc"))
    SOURCE.unlink()


def zipped() -> None:
    """In an archive."""
    with zipfile.ZipFile(HERE / "app.zip", "w") as archive:
        archive.writestr("m.py", OLD)
    sys.path.insert(0, str(HERE / "app.zip"))


def extension() -> None:
    """An extension module called `_json`, from beside its source."""
    import _json  # noqa: PLC0415

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (HERE / f"m{suffix}").write_bytes(b"")
    as_usual()
    made = types.ModuleType("m")
    made.__file__ = str(HERE / f"m{suffix}")
    vars(made).update(f=_json.scanstring, g=_json.scanstring)
    sys.modules["m"] = made


def rewritten() -> None:
    """Loaded by pytest's rewriting of assertions."""
    from _pytest.assertion import install_importhook  # noqa: PLC0415
    from _pytest.config import get_config  # noqa: PLC0415

    as_usual()
    # zdpatch brings a plugin of pytest, and is imported here before pytest could rewrite it
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    config = get_config()
    config.parse([])
    install_importhook(config).mark_rewrite("m")


def hooked(text: str = OLD) -> None:
    """Loaded by a hook that compiles another text than that of the file."""
    as_usual()

    class Loader(SourceFileLoader):
        def get_code(self, fullname: str) -> types.CodeType:
            return compile(text, self.get_filename(fullname), "exec")

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> ModuleSpec | None:
            return spec_from_loader(name, Loader(name, str(SOURCE))) if name == "m" else None

    sys.meta_path.insert(0, cast("Any", Finder))


def checked() -> None:
    """Loaded by a hook that puts calls into functions, as checkers of types do."""
    hooked(
        OLD.replace("    assert RATE\n", "    assert RATE, str('checked')\n    str('checked')\n")
    )


def covered(core: str, m: Any) -> None:  # noqa: ANN401
    """Under coverage."""
    os.environ["COVERAGE_CORE"] = core
    coverage = importlib.import_module("coverage")
    coverage.Coverage(data_file=None, branch=core != "sysmon").start()
    used(m)


def used(m: Any) -> None:  # noqa: ANN401
    """Every function was called, so that what watches it has left its marks."""
    for _ in range(3):
        for call in (m.f, m.g, m.C().m, m.C().n):
            call()


def watched(by: Callable[[Any], None], m: Any) -> None:  # noqa: ANN401
    """Under a function that is called for what happens."""
    by(never)
    used(m)


def monitored(m: Any) -> None:  # noqa: ANN401
    """Under `sys.monitoring`, every instruction."""
    if sys.version_info < (3, 12):
        return
    monitoring: Any = sys.monitoring
    events = monitoring.events
    wanted = (events.LINE, events.INSTRUCTION, events.PY_START, events.CALL, events.BRANCH)
    monitoring.use_tool_id(3, "identity")
    monitoring.set_events(3, functools.reduce(int.__or__, wanted))
    for event in wanted:
        monitoring.register_callback(3, event, never)
    used(m)


class Proxy:
    """A wrapper as instrumentation makes them: an object that calls, and binds, what it wraps."""

    def __init__(self, wrapped: Any) -> None:  # noqa: ANN401
        self.__wrapped__ = wrapped

    def __call__(self, *args: object) -> object:
        return self.__wrapped__(*args)

    def __get__(self, one: object, owner: object) -> object:
        return types.MethodType(self, one) if one is not None else self


SETUPS: dict[str, Callable[[], None]] = {
    "pyc": compiled_only,
    "zip": zipped,
    "extension": extension,
    "pytest": rewritten,
    "hook": checked,
    "idle hook": hooked,
}
LIVE: dict[str, Callable[[Any], object]] = {
    "settrace": lambda m: watched(sys.settrace, m),
    "setprofile": lambda m: watched(sys.setprofile, m),
    "coverage-c": lambda m: covered("ctrace", m),
    "coverage-py": lambda m: covered("pytrace", m),
    "coverage-monitoring": lambda m: covered("sysmon", m),
    "monitoring": monitored,
    "file replaced": lambda _: SOURCE.write_text(OLD.replace("return", "return 9 *")),
    "file gone": lambda _: shutil.rmtree(HERE),
    "mock": lambda _: mock.patch("m.f").start(),
    "mock with spec": lambda _: mock.patch("m.f", autospec=True).start(),
    "mocked class": lambda _: mock.patch("m.C").start(),
    "mocked method": lambda m: mock.patch.object(m.C, "m").start(),
    "function": lambda m: setattr(m, "f", lambda: 9),
    "method": lambda m: setattr(m.C, "m", never),
    "wrapper": lambda m: setattr(m, "g", Proxy(m.g)),
    "closure": lambda m: setattr(m, "g", functools.wraps(m.g)(lambda: 9)),
    "wrapped method": lambda m: setattr(m.C, "n", Proxy(m.C.n)),
    "compiled function": lambda m: setattr(m, "f", len),
    "code": lambda m: setattr(m.f, "__code__", (lambda: 9).__code__),
    "mocked g": lambda _: mock.patch("m.g").start(),
    "mocked method n": lambda m: mock.patch.object(m.C, "n").start(),
    "gone": lambda m: setattr(m, "g", lambda: 9),
    "closure round g": lambda m: setattr(m, "g", wrapper(m.g)),
}


def wrapper(function: Any) -> Any:  # noqa: ANN401
    """A function that calls another."""

    @functools.wraps(function)
    def around(*args: object) -> object:
        return function(*args)

    return around


def main(case: str, adopt: list[str], replace: list[str]) -> dict[str, Any]:
    """Make it, patch it, and tell."""
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(HERE))
    SETUPS.get(case, as_usual)()
    m: Any = importlib.import_module("m")
    LIVE.get(case, never)(m)
    before = everything(m)
    try:
        patch = local.make_patch({"m.py": OLD}, {"m.py": NEW})
        done = local.apply(local.plan(patch, adopt=adopt, replace=replace))
        went_in = [plain(m.g()), plain(m.C().n())]
        words = ("left alone", "put back", "not replaced")
        notices = [each for each in done.notices if any(word in each for word in words)]
        local.revert("LOCAL")
        same = list(map(id, before)) == list(map(id, everything(m)))
        back = [plain(m.g()), plain(m.C().n())]
        told = {"notices": notices} if adopt or replace else {}
        return {"in": went_in, "back": back, "same": same, **told}
    except Refused as error:
        verdicts = [[each.path, each.row, each.reason] for each in error.verdicts]
        remedies = [each.remedy for each in error.verdicts]
        return {"code": error.code, "cause": error.cause, "verdicts": verdicts, "say": remedies}


def everything(m: Any) -> list[object]:  # noqa: ANN401
    """What its namespaces bind, held so that an id stays its object's."""
    space = cast("dict[str, object]", m.__dict__)
    cls = space.get("C")
    own = cast("dict[str, object]", dict(cls.__dict__)) if type(cls) is type else {}
    return [*space.values(), *own.values()]


def plain(value: object) -> object:
    """A number, or what else it is."""
    return value if type(value) is int else type(value).__name__


if __name__ == "__main__":
    answer = main(sys.argv[1], *(text.split() for text in (sys.argv[2:] or ["", ""])))
    sys.settrace(None)
    print(json.dumps(answer), flush=True)
    os._exit(0)
