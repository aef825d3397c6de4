"""Runs the new release's own tests in one process: on the new release, or on the old one after it
was brought to the new one in some way.

A program run by the release's own venv, one file for that reason: `replay_child.py JOB.json
REPORT.json`. Modes: "new" (fresh), and the ways "zdpatch", "reload" and "jurigged": these import
every module of the old release, keep every function object they can find, bring the new release
in, look which functions still run what it replaced, and only then start pytest in the same
process. Mode "control" makes refused edits all the same, each in a fork, and looks what breaks.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import itertools
import json
import os
import pkgutil
import shutil
import sys
import time
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

Report = dict[str, Any]
Files = dict[str, bytes]
Held = list[tuple[str, types.FunctionType]]


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


def load(packages: list[str], skip: list[str]) -> list[str]:
    """Import all modules of `packages`; the names of those which cannot be imported here."""
    failed: list[str] = []
    for package in packages:
        top = importlib.import_module(package)
        path = getattr(top, "__path__", [])
        for found in pkgutil.walk_packages(path, package + ".", onerror=lambda _: None):
            if found.name in skip or found.name.endswith("__main__"):
                continue
            try:
                importlib.import_module(found.name)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # an optional dependency
                failed.append(f"{found.name}: {error}")
    return failed


def loaded(packages: list[str]) -> dict[str, types.ModuleType]:
    """The modules of `packages`, by name, in the order in which they were begun."""
    modules: dict[str, Any] = dict(sys.modules)  # it may hold anything
    return {
        name: module
        for name, module in modules.items()
        if name.partition(".")[0] in packages and isinstance(module, types.ModuleType)
    }


def functions(packages: list[str]) -> Held:
    """Every live function whose globals are a module of `packages`."""
    names = {id(vars(module)): name for name, module in loaded(packages).items()}
    gc.collect()
    return [
        (names[id(one.__globals__)], one)
        for one in gc.get_objects()
        if isinstance(one, types.FunctionType) and id(one.__globals__) in names
    ]


def codes(files: Files) -> dict[str, dict[str, list[types.CodeType]]]:
    """Code objects of all modules, by module and qualified name."""
    return {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): flat(
            compile(text, path, "exec", dont_inherit=True)
        )
        for path, text in files.items()
        if path.endswith(".py")
    }


def stale(held: Held, old: Files, new: Files) -> tuple[int, list[str]]:
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


def sources(root: Path, packages: list[str]) -> Files:
    """The files of `packages`, by path relative to the import root."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(root).parts[0].removesuffix(".py") in packages
    }


def point_at(root: str, job: Report) -> None:
    """Let every import of the release's modules come from `root`."""
    sys.path[:] = [root if entry == job["old"] else entry for entry in sys.path]
    for name, module in loaded(job["packages"]).items():
        if hasattr(module, "__path__"):
            module.__path__ = [str(Path(root, *name.split(".")))]
    importlib.invalidate_caches()


def by_zdpatch(old: Files, new: Files, job: Report) -> Report:  # as the others
    """Plan and apply a patch; its times, or the verdicts of the refusal."""
    from zdpatch.agent import local  # noqa: PLC0415  # only this mode needs it
    from zdpatch.patcher.errors import ZdpatchError  # noqa: PLC0415

    clock = [time.perf_counter()]
    try:
        patch = local.make_patch(old, new)
        clock.append(time.perf_counter())
        plan = local.plan(patch)
        clock.append(time.perf_counter())
        outcome = local.apply(plan)
        clock.append(time.perf_counter())
    except ZdpatchError as error:
        refused = [one for one in getattr(error, "verdicts", ()) if one.row != "A"]
        fields = ("path", "row", "edit", "reason", "line")
        verdicts = [{field: getattr(one, field) for field in fields} for one in refused]
        return {"refused": f"{error.code}: {error.cause}", "verdicts": verdicts}
    spent = [round((end - start) * 1000, 1) for start, end in itertools.pairwise(clock)]
    return {
        **dict(zip(("patch ms", "plan ms", "apply ms"), spent, strict=True)),
        "flip us": round(outcome.flip_us, 1),
        "functions": outcome.functions,
        "notices": list(outcome.notices),
    }


def by_reload(old: Files, new: Files, job: Report) -> Report:
    """importlib.reload of every loaded module whose text changed, in the order of sys.modules."""
    point_at(job["new"], job)
    trouble: list[str] = []
    for name, module in loaded(job["packages"]).items():
        stem = name.replace(".", "/")
        if any(old.get(path) != new.get(path) for path in (f"{stem}.py", f"{stem}/__init__.py")):
            try:
                importlib.reload(module)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # told, that is its result
                trouble.append(f"{name}: {type(error).__name__}: {error}")
    return {"trouble": trouble}


def by_jurigged(old: Files, new: Files, job: Report) -> Report:
    """What jurigged's watcher does when the files change, without its wait for them."""
    trouble: list[str] = []
    files: Any = importlib.import_module("jurigged").registry
    paths = {
        path: str(Path(job["old"], path))
        for path, text in old.items()
        if path in new and text != new[path] and path.endswith(".py")
    }
    live = {str(getattr(module, "__file__", "")): name for name, module in sys.modules.items()}
    for full in paths.values():
        if full in live:
            files.prepare(live[full], full)
    shutil.copytree(job["new"], job["old"], dirs_exist_ok=True)
    for path, full in paths.items():
        try:
            if full in live:
                files.get(full).refresh()
        except Exception as error:  # noqa: BLE001  # told, that is its result
            trouble.append(f"{path}: {type(error).__name__}: {error}")
    return {"trouble": trouble}


WAYS: dict[str, Callable[[Files, Files, Report], Report]] = {
    "zdpatch": by_zdpatch,
    "reload": by_reload,
    "jurigged": by_jurigged,
}


def fix_shows(check: str, scope: dict[str, Any]) -> bool:
    """Whether `check` is true; a check that raises is not."""
    try:
        return bool(eval(check, scope))
    except Exception:  # noqa: BLE001  # an old object may break in any way
        return False


def go_live(job: Report) -> Report:
    """Load the old release, hold its functions, bring the new one in; what became of it."""
    packages = list[str](job["packages"])
    told: Report = {"not imported": load(packages, job["skip_import"])}
    scope: dict[str, Any] = {}
    exec(job["live"], scope)
    told["check before"] = fix_shows(job["check"], scope)
    held = functions(packages)
    told["functions held"] = len(held)
    old, new = sources(Path(job["old"]), packages), sources(Path(job["new"]), packages)
    told |= WAYS[job["mode"]](old, new, job)
    if "refused" not in told:
        changed, left = stale(held, old, new)
        told |= {"held and changed": changed, "stale": left}
        told["check"] = fix_shows(job["check"], scope)
    return told


def control(one: Report, scope: dict[str, Any]) -> str:
    """Make a refused edit all the same: "broken" when that breaks what `one` says, or what else."""
    try:
        exec(one["apply"], scope)
        return "broken" if eval(one["broken"], scope) else "works"
    except Exception:  # noqa: BLE001  # a control that fails confirms nothing
        return traceback.format_exc(limit=-2)


def controls(job: Report) -> Report:
    """Every control of the job, in a fork each, with what it may use: `reload(name)` brings a
    module to its new text in place, `new(name)` gives a scratch module of the new text.
    """

    def reload(name: str) -> types.ModuleType:
        point_at(job["new"], job)
        return importlib.reload(importlib.import_module(name))

    def new(name: str) -> types.ModuleType:
        point_at(job["new"], job)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        stem = Path(job["new"], *name.split("."))
        path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
        return module

    load(job["packages"], job["skip_import"])
    scope: dict[str, Any] = {"reload": reload, "new": new}
    exec(job["live"], scope)
    outcomes: list[str] = []
    for one in job["controls"]:
        receive, send = os.pipe()
        if (child := os.fork()) == 0:
            os.write(send, control(one, scope).encode()[-4000:])
            os._exit(0)
        os.close(send)
        with open(receive, encoding="utf-8") as answer:  # noqa: PTH123  # a descriptor
            outcomes.append(answer.read())
        os.waitpid(child, 0)
    return {"controls": outcomes}


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


def run_tests(arguments: list[str]) -> Report:
    """The release's own tests, in this process."""
    import pytest  # noqa: PLC0415  # the release's own, after the patch

    outcomes = Outcomes()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-o", "filterwarnings="]
    options += ["-o", "addopts=", "-o", "xfail_strict=false"]
    ended = int(pytest.main([*options, *arguments], plugins=[outcomes]))
    return {"exit": ended, "tests": outcomes.ended}


def main() -> int:
    """Do the job of argv[1], write the report to argv[2]."""
    job: Report = json.loads(Path(sys.argv[1]).read_text())
    target = Path(sys.argv[2])
    sys.argv[1:] = []  # tests may read it
    sys.path.insert(0, str(job["new"] if job["mode"] == "new" else job["old"]))
    sys.dont_write_bytecode = True
    os.chdir(job["root"])
    report: Report = {"mode": job["mode"]}
    if job["mode"] == "control":
        report |= controls(job)
    elif job["mode"] == "new":
        load(job["packages"], job["skip_import"])
    else:
        report |= go_live(job)
    # Written twice: a process that dies in its tests still tells what came before them.
    target.write_text(json.dumps(report))
    if job["mode"] != "control" and "refused" not in report and job["arguments"]:
        report |= run_tests(job["arguments"])
        target.write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads that a test left behind do not keep the process
