"""CPU that an idle agent uses in a minute, beside an interpreter that sleeps as long. Prints
JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile

SECONDS = 60
PROGRAM = """
import json, resource, sys, time
if sys.argv[1] == "agent":
    from zdpatch import agent
    agent.start(app="bench")
time.sleep(3)
if sys.argv[1] == "agent":
    import os, pathlib
    up = list(pathlib.Path(os.environ["ZDPATCH_HOME"]).glob("agents/*/agent.json"))
    assert up, "the agent did not come up"
before = resource.getrusage(resource.RUSAGE_SELF)
time.sleep(float(sys.argv[2]))
after = resource.getrusage(resource.RUSAGE_SELF)
used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps({"cpu": used, "switches": after.ru_nvcsw - before.ru_nvcsw}))
"""


def main() -> None:
    """Both sleep at the same time; the figure is the agent's share of one CPU."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ZDPATCH_HOME": home}
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, which, str(SECONDS)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for which in ("agent", "bare")
        ]
        agent, bare = (json.loads(each.communicate()[0]) for each in running)
    share = max(0.0, 100 * (agent["cpu"] - bare["cpu"]) / SECONDS)
    row = {"figure": "idle CPU over a minute", "unit": "%", "value": round(share, 4)}
    row |= {
        "baseline": round(100 * bare["cpu"] / SECONDS, 4),
        "baseline is": "a sleeping interpreter",
    }
    also = {"wake-ups a minute": agent["switches"], "wake-ups bare": bare["switches"]}
    print(json.dumps({**row, "reach": 0.01, "met": share <= 0.01, "also": also}))


main()
