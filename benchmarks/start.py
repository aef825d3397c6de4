"""CPU and memory of importing and starting the agent, over the bare interpreter. Prints JSON lines.

The agent's thread is started explicitly late (one second after `start`): the child waits until it
answers, so that the thread and its libraries are paid for as well. Bytecode is on disk, as after
an installation: without it each start would also compile (25 to 40 ms).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 11
MEASURE = """
import json, resource
def report():
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/smaps_rollup") as table:
        sizes = {line.split()[0]: int(line.split()[1]) for line in table if line.endswith("kB\\n")}
    print(json.dumps({"cpu": used.ru_utime + used.ru_stime, "rss": sizes["Rss:"], "pss":
    sizes["Pss:"]}))
"""
BARE = MEASURE + "report()\n"
STARTED = """
import time
from zdpatch import agent
agent.start(app="bench")
from pathlib import Path
import os
home = Path(os.environ["ZDPATCH_HOME"])
time.sleep(1)
until = time.monotonic() + 20
while not list(home.glob("agents/*/agent.json")) and time.monotonic() < until:
    time.sleep(0.05)
assert list(home.glob("agents/*/agent.json")), "the agent did not come up"
"""


def run(program: str, bytecode: str) -> dict[str, float]:
    """What one fresh interpreter used for `program`, with its bytecode below `bytecode`."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ZDPATCH_HOME": home, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    used: dict[str, float] = json.loads(done.stdout)
    return used


def main() -> None:
    """Alternate bare and started interpreters; print the difference of the medians."""
    bare, started = list[dict[str, float]](), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as bytecode:
        run(MEASURE + STARTED + "report()\n", bytecode)
        for _ in range(ROUNDS):
            bare.append(run(BARE, bytecode))
            started.append(run(MEASURE + STARTED + "report()\n", bytecode))
    middle = {
        key: (statistics.median(b[key] for b in bare), statistics.median(s[key] for s in started))
        for key in ("cpu", "rss", "pss")
    }
    cpu = (middle["cpu"][1] - middle["cpu"][0]) * 1000
    rss = (middle["rss"][1] - middle["rss"][0]) / 1024
    shown = (
        ("agent import and start: CPU", "ms", cpu, middle["cpu"][0] * 1000, 80),
        ("agent import and start: memory", "MiB", rss, middle["rss"][0] / 1024, 15),
    )
    for figure, unit, value, baseline, reach in shown:
        row = {"figure": figure, "unit": unit, "value": round(value, 1)}
        row |= {"baseline": round(baseline, 1), "baseline is": "the bare interpreter, subtracted"}
        print(json.dumps({**row, "reach": reach, "met": value <= reach}))


main()
