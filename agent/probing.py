"""In a fresh interpreter: a probe runs against sources as a patch has them, and what it found is
written down. Nothing of this runs in the application's own process.

A probe is a module: each function `test_...` without parameters is a check (a coroutine function is
run to its end), and so is each row of a table `EXPECT`: a path, the arguments of a call, and what
it returns, or the type of what it raises. A module that imports pytest is run by pytest.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from zdpatch.agent.tasks import BEGUN, REPORT_FD, Case, Found, Task, imports_pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zdpatch.patcher.source import Patch

_MORE_S: Final = 5
_LINES: Final = 40  # of what is told of one failure


def main(raw: bytes) -> None:
    """Do the task, write what was found, and end whatever else the modules have started."""
    os.closerange(REPORT_FD + 1, os.sysconf("SC_OPEN_MAX"))
    task = msgspec.msgpack.decode(raw, type=Task)
    _serve(task.patch)
    os.write(REPORT_FD, BEGUN)  # its time counts from here
    signal.alarm(task.limit_s + _MORE_S)  # when nobody is left to end it
    found = _found(task)
    os.write(REPORT_FD, msgspec.msgpack.encode(found))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _serve(patch: Patch) -> None:
    """Let modules be imported, and data files be read, as the patch has them."""
    from zdpatch.patcher import overlay  # noqa: PLC0415 - an agent loads its engine when it must

    overlay.serve(patch, new=True)
    if patch.data:
        from zdpatch.agent.local import temporary  # noqa: PLC0415 - all of the engine
        from zdpatch.agent.shelf import Shelf  # noqa: PLC0415
        from zdpatch.patcher import served  # noqa: PLC0415

        served.serve(patch, Shelf(temporary()), new=True)


def _found(task: Task) -> Found:
    try:
        tree = ast.parse(task.source)
        cases = _by_pytest(task) if imports_pytest(tree) else [*_checks(task)]
    except BaseException:  # noqa: BLE001 - it may exit, too
        return Found(failure=_seen())
    return Found(cases, "" if cases else "it has no check: no test_... function, and no EXPECT")


# ------------------------------------------------------------ by itself


def _checks(task: Task) -> Iterator[Case]:
    from zdpatch.patcher import overlay  # noqa: PLC0415 - as above

    name = f"zdpatch_probe_{task.name.removesuffix('.py')}"
    filename = f"<probe {task.name}>"
    module = sys.modules[name] = ModuleType(name)
    overlay.remember(filename, task.source)
    # an interpreter with -O would leave out what makes it a check
    exec(compile(task.source, filename, "exec", dont_inherit=True, optimize=0), vars(module))  # noqa: S102
    for row in vars(module).get("EXPECT", ()):
        yield Case(str(row[0]), _failure(_expect, *row))
    for key, value in list(vars(module).items()):
        if key.startswith("test_") and type(value) is FunctionType:
            yield Case(key, _failure(_run, value))


def _run(test: FunctionType) -> None:
    if inspect.iscoroutinefunction(test):
        asyncio.run(test())
    else:
        test()


def _failure(check: Callable[..., None], *arguments: object) -> str:
    try:
        check(*arguments)
    except BaseException:  # noqa: BLE001 - as above
        return _seen()
    return ""


def _expect(path: str, arguments: Sequence[object], expected: object) -> None:
    """Raises AssertionError when a call gives something else."""
    module, _, qualname = path.partition(":")
    target: Any = importlib.import_module(module)
    for part in qualname.split("."):
        target = getattr(target, part)
    raises = isinstance(expected, type) and issubclass(expected, BaseException)
    try:
        value = target(*arguments)
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
    except BaseException as error:
        if raises and isinstance(error, cast("type[BaseException]", expected)):
            return
        raise
    call = f"{qualname}({', '.join(map(repr, arguments))})"
    if raises:
        raise AssertionError(f"{call} gives {value!r}, and raises no {expected!r}")
    if value != expected:
        raise AssertionError(f"{call} gives {value!r}, not {expected!r}")


def _seen() -> str:
    """The exception that is handled, without the lines of this module."""
    error = sys.exception()
    assert error is not None
    told = traceback.TracebackException.from_exception(error, compact=True)
    own = [frame for frame in told.stack if frame.filename != __file__]
    told.stack = traceback.StackSummary.from_list(own)
    return "\n".join("".join(told.format(chain=False)).splitlines()[-_LINES:])


# ------------------------------------------------------------ by pytest


class _Listener:
    """Hears how each test of a run of pytest ended."""

    def __init__(self) -> None:
        self.failures: dict[str, str] = {}

    def pytest_collectreport(self, report: Any) -> None:  # noqa: ANN401 - pytest may not be here
        """A module that cannot be collected is a check that fails."""
        if report.failed:
            self._note(report)

    def pytest_runtest_logreport(self, report: Any) -> None:  # noqa: ANN401
        """Set-up, call and tear-down; what is skipped checks nothing."""
        if report.failed or (report.when == "call" and not report.skipped):
            self._note(report)

    def _note(self, report: Any) -> None:  # noqa: ANN401
        text = str(report.longrepr) if report.failed else ""
        name = report.nodeid.rpartition("::")[2] or report.nodeid
        self.failures[name] = self.failures.get(name) or "\n".join(text.splitlines()[-_LINES:])


def _by_pytest(task: Task) -> list[Case]:
    pytest: Any = importlib.import_module("pytest")
    listener = _Listener()
    with tempfile.TemporaryDirectory(prefix="zdpatch-probe-") as folder:
        file = Path(folder) / task.name
        file.write_bytes(task.source)
        (ini := Path(folder) / "pytest.ini").write_bytes(b"[pytest]\n")  # and nobody else's
        words = ["-q", "-p", "no:cacheprovider", "-c", str(ini), "--rootdir", folder, str(file)]
        pytest.main(words, plugins=[listener])
    return [Case(name, failure) for name, failure in listener.failures.items()]
