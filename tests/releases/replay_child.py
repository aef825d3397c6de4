"""Runs the new release's own tests in one process: on a release as it is, or on the old one with
the patch in it.

A program run by the release's own venv: `replay_child.py JOB.json REPORT.json`. In mode "live" it
imports every module of the old release, keeps every function object it can find, applies the
patch, looks which of them still run what the new release replaced, and only then starts pytest,
in the same process.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

Report = dict[str, Any]


def flat(code: types.CodeType) -> dict[str, list[types.CodeType]]:
    """Every code object inside `code`, by qualified name."""
    found: dict[str, list[types.CodeType]] = {}
    queue = [code]
    while queue:
        one = queue.pop()
        found.setdefault(one.co_qualname, []).append(one)
        queue += [const for const in one.co_consts if isinstance(const, types.CodeType)]
    return found


def shape(code: types.CodeType) -> tuple[object, ...]:
    """What `code` does, without where it stands in the file."""
    # From 3.13 on the body of a class holds its own line number.
    line = code.co_firstlineno if "__firstlineno__" in code.co_names else None
    constants = tuple(
        shape(const) if isinstance(const, types.CodeType) else (type(const).__name__, repr(const))
        for const in code.co_consts
        if line is None or const != line
    )
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return (code.co_code, constants, names, code.co_argcount, code.co_kwonlyargcount)


def load(package: str, skip: list[str]) -> list[str]:
    """Import all modules of `package`; the names of those which cannot be imported here."""
    top = importlib.import_module(package)
    failed: list[str] = []
    for found in pkgutil.walk_packages(top.__path__, package + "."):
        if found.name in skip or found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except Exception as error:  # noqa: BLE001  # an optional dependency is not here
            failed.append(f"{found.name}: {error}")
    return failed


def functions(package: str) -> list[tuple[str, types.FunctionType]]:
    """Every live function whose globals are a module of `package`."""
    names = {
        id(vars(module)): name
        for name, module in sys.modules.items()
        if name.partition(".")[0] == package
    }
    gc.collect()
    return [
        (names[id(one.__globals__)], one)
        for one in gc.get_objects()
        if isinstance(one, types.FunctionType) and id(one.__globals__) in names
    ]


def codes(files: dict[str, bytes]) -> dict[str, dict[str, list[types.CodeType]]]:
    """Code objects of all modules, by module and qualified name."""
    return {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): flat(
            compile(text, path, "exec", dont_inherit=True)
        )
        for path, text in files.items()
        if path.endswith(".py")
    }


def stale(
    held: list[tuple[str, types.FunctionType]], old: dict[str, bytes], new: dict[str, bytes]
) -> tuple[int, list[str]]:
    """How many of the functions held have new code in the new release, and which of them do not
    run it.
    """
    before, after = codes(old), codes(new)
    changed, left = 0, list[str]()
    for module, function in held:
        name = function.__code__.co_qualname
        was = [shape(code) for code in before.get(module, {}).get(name, [])]
        now = [shape(code) for code in after.get(module, {}).get(name, [])]
        if not was or not now or was == now:
            continue
        changed += 1
        if shape(function.__code__) not in now:
            left.append(f"{module}:{name}")
    return changed, left


def sources(root: Path, package: str) -> dict[str, bytes]:
    """The package's modules, by path relative to the import root."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / package).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def go_live(job: Report) -> Report:
    """Load the old release, hold its functions, apply the patch; what became of it."""
    from zdpatch.agent import local  # noqa: PLC0415  # only this mode needs it
    from zdpatch.patcher.errors import ZdpatchError  # noqa: PLC0415

    package = str(job["package"])
    told: Report = {"not imported": load(package, job["skip_import"])}
    scope: dict[str, Any] = {}
    exec(job["live"], scope)
    held = functions(package)
    told["functions held"] = len(held)
    old, new = sources(Path(job["old"]), package), sources(Path(job["new"]), package)
    started = time.perf_counter()
    try:
        patch = local.make_patch(old, new)
        plan = local.plan(patch)
        told["plan ms"] = round((time.perf_counter() - started) * 1000, 1)
        outcome = local.apply(plan)
    except ZdpatchError as error:
        told["refused"] = f"{error.code}: {error.cause}"
        told["verdicts"] = [
            {
                "path": one.path,
                "row": one.row,
                "edit": one.edit,
                "reason": one.reason,
                "line": one.line,
            }
            for one in getattr(error, "verdicts", ())
            if one.row != "A"
        ]
        return told
    told |= {"flip us": round(outcome.flip_us, 1), "functions": outcome.functions}
    told["notices"] = list(outcome.notices)
    changed, left = stale(held, old, new)
    told |= {"held and changed": changed, "stale": left}
    told["check"] = bool(eval(job["check"], scope))
    return told


class Outcomes:
    """A pytest plugin that writes down how each test ended."""

    def __init__(self) -> None:
        self.ended: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the worst of set-up, call and tear-down."""
        known = self.ended.get(report.nodeid, "passed")
        if report.when == "call" or report.outcome != "passed":
            outcome = str(report.outcome)
            self.ended[report.nodeid] = outcome if known == "passed" else known


def main() -> int:
    """Do the job of argv[1], write the report to argv[2]."""
    job: Report = json.loads(Path(sys.argv[1]).read_text())
    sys.path.insert(0, str(job["old"] if job["mode"] in ("live", "old") else job["new"]))
    sys.dont_write_bytecode = True
    os.chdir(job["root"])
    report: Report = {"mode": job["mode"]}
    if job["mode"] == "live":
        report |= go_live(job)
    else:
        load(str(job["package"]), job["skip_import"])
    if "refused" not in report:
        import pytest  # noqa: PLC0415  # the release's own, after the patch

        outcomes = Outcomes()
        options = ["-q", "--no-header", "-p", "no:cacheprovider", "-o", "filterwarnings="]
        report["exit"] = int(pytest.main([*options, *job["arguments"]], plugins=[outcomes]))
        report["tests"] = outcomes.ended
    Path(sys.argv[2]).write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
