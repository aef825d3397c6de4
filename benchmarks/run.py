"""Runs every figure's script with this interpreter, keeps the results as JSON and prints the table.

`python benchmarks/run.py [NAME...]`: all scripts, or those named. Results of one Python go to
`benchmarks/results/cpXY.json`; figures of scripts that were not run this time keep their last
result.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SCRIPTS = (
    "flip",
    "call",
    "routed",
    "scope",
    "verify",
    "plan",
    "push",
    "pause",
    "release",
    "leak",
    "start",
    "idle",
)
COLUMNS = ("figure", "value", "unit", "baseline", "baseline is", "reach", "met")


def measure(script: Path) -> list[dict[str, Any]]:
    """The figures that one script prints, one JSON object a line."""
    done = subprocess.run(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        print(f"{script.name} failed", file=sys.stderr)
        return []
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as a Markdown table."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for figure in figures.values():
        shown = {**figure, "met": "yes" if figure.get("met") else "no"}
        lines.append("| " + " | ".join(str(shown.get(column, "")) for column in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> int:
    """Run, keep, print; 1 when a script failed."""
    wanted = sys.argv[1:] or [name for name in SCRIPTS if (HERE / f"{name}.py").exists()]
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / f"cp{sys.version_info[0]}{sys.version_info[1]}.json"
    known: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"figures": {}}
    failed = False
    for name in wanted:
        figures = measure(HERE / f"{name}.py")
        failed = failed or not figures
        known["figures"] |= {each["figure"]: each for each in figures}
    known["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
    )
    kept.write_text(json.dumps(known, indent=1) + "\n")
    print(table(known["figures"]))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
