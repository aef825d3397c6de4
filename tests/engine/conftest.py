"""Scenarios are text files under cases/; each is run in a fork of one warm child interpreter.

A file holds scenarios: `[case name]`, one line that says what it proves, then sections. Sections
that are source take a path (default `m.py`): `[base m.py]`, `[new m.py]`, `[outside app.py]`
(loaded, not in the patched tree), `[gone m.py]` (removed by the patch); `[edit m.py]` is the new
source as lines of a diff, and `[like name]` takes sources, needs and live state of a case above.
Others are code or
checks: `[live]` runs after the import of the base; each expression of `[was]` is true before the
patch and after its revert (or `[back]`, when given); `[now]` while it is applied; `[refused]`
lists what must be told: `path row words of the reason`, or an error id; `[breaks]` is true when
the edit is applied all the same, by `[control]` or by name, and was not before, or would not be in
a fresh process. `[lazy]` names files that are not imported; `[either]` may be refused;
`[needs flask]` names what is imported before the scenario; `[between]` runs between plan and apply;
`[once]` applies only once; `[keep]` leaves it applied; `[flags]` are the interpreter's (`-O`);
`[python 3.12]` is the least version.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SOURCES = ("base", "new", "outside")
SECTIONS = (
    "case|like|base|new|edit|outside|gone|lazy|live|was|now|back|refused|control|breaks|"
    "either|once|keep|flags|needs|python|between"
)
_NUMBERS = itertools.count()
HEADER = re.compile(rf"\[((?:{SECTIONS})(?: [^\]]+)?)\]")


class RunCase(Protocol):
    """Runs one scenario; returns {failed: the reason it does not hold, refused: whether it was}."""

    def __call__(self, case: dict[str, Any]) -> dict[str, Any]: ...


class Children:
    """One warm child interpreter for each set of flags and needs, started at first use."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], subprocess.Popen[str]] = {}

    def run(self, case: dict[str, Any]) -> dict[str, Any]:
        """Send one scenario, wait for its report."""
        flags, needs = (str(case["sections"].get(one, "")).strip() for one in ("flags", "needs"))
        child = self._child(flags, needs)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(case) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            del self._running[flags, needs]
            child.wait(20)
        assert line, "the child interpreter ended"
        report: dict[str, Any] = json.loads(line)
        return report

    def _child(self, flags: str, needs: str) -> subprocess.Popen[str]:
        if (flags, needs) not in self._running:
            command = [sys.executable, *flags.split(), "-m", "tests.engine.scenario_child"]
            self._running[flags, needs] = subprocess.Popen(
                [*command, *needs.split()],
                cwd=HERE.parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return self._running[flags, needs]

    def close(self) -> None:
        """End the children by ending their input."""
        for child in self._running.values():
            child.communicate(timeout=20)


def _blank() -> dict[str, Any]:
    return {"base": {}, "new": {}, "outside": {}, "gone": [], "lazy": [], "sections": {}}


def edited(base: str, diff: str) -> str:
    """`base` with each run of "-" lines, which stands there once, replaced by its "+" lines."""
    for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)*)", diff, re.MULTILINE):
        was, becomes = (re.sub("^.", "", part, flags=re.MULTILINE) for part in (old, new))
        assert base.count(was) == 1, f"{base.count(was)} times in the base: {was}"
        base = base.replace(was, becomes)
    return base


def _close_section(case: dict[str, Any], header: str, lines: list[str]) -> None:
    kind, _, path = header.partition(" ")
    text = "\n".join(lines).strip("\n") + "\n"
    if kind in SOURCES:
        case[kind][path or "m.py"] = text
    elif kind == "edit":
        case["new"][path or "m.py"] = edited(case["base"][path or "m.py"], text)
    elif kind in ("gone", "lazy"):
        case[kind] += path.split() or ["m.py"]
    elif kind == "case":
        case["name"], case["proves"] = path, text.strip()
    else:
        case["sections"][kind] = f"{path}\n{text}" if path else text


def parse(text: str) -> Iterator[dict[str, Any]]:
    """The scenarios of one file."""
    case, header, lines, known = _blank(), "", list[str](), dict[str, dict[str, Any]]()
    for line in [*text.split("\n"), "[case end]"]:
        match = HEADER.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        if header:
            _close_section(case, header, lines)
        if match[1].startswith("case "):
            if "name" in case:
                known[case["name"]] = case
                yield case
            case = _blank()
        elif match[1].startswith("like "):
            like = known[match[1].removeprefix("like ")]
            case |= {kind: dict(like[kind]) for kind in ("base", "outside")}
            shared = {kind: like["sections"].get(kind) for kind in ("needs", "live", "python")}
            case["sections"] |= {kind: text for kind, text in shared.items() if text}
        header, lines = match[1], []


def cases() -> list[dict[str, Any]]:
    """All scenarios of cases/, with ids file-name."""
    found: list[dict[str, Any]] = []
    for path in sorted((HERE / "cases").glob("*.scenario")):
        found += [{**case, "id": f"{path.stem}-{case['name']}"} for case in parse(path.read_text())]
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes `case` runs once for each scenario."""
    if "case" in metafunc.fixturenames:
        known = cases()
        metafunc.parametrize("case", known, ids=[case["id"] for case in known])


@pytest.fixture(scope="session")
def run_case() -> Iterator[RunCase]:
    """Runs a scenario in a fork of a child interpreter."""
    children = Children()
    yield children.run
    children.close()


@pytest.fixture
def live() -> Iterator[ModuleType]:
    """A module that runs nothing yet, of a name and file of its own."""
    name = f"m{next(_NUMBERS)}"
    module = ModuleType(name)
    module.__file__ = f"<{name}>"
    sys.modules[name] = module
    yield module
    del sys.modules[name]
