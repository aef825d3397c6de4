"""One child process runs one release in one way; its report is kept until something that it
depends on changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.releases.pairs import HERE, ROOT

if TYPE_CHECKING:
    from tests.releases.pairs import Pair

Report = dict[str, Any]
LIMIT_S: Final = 900
OTHER_WAY_LIMIT_S: Final = 300  # where a release hangs after a reload, that is the result
CHILD: Final = HERE / "replay_child.py"


def engine_digest() -> str:
    """What the engine is: a digest of its source."""
    files = sorted(path for name in ("patcher", "agent") for path in (ROOT / name).rglob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()[:16]


def run(pair: Pair, mode: str, *, again: bool = False) -> Report:
    """The child's report. "died" in it says that the process ended otherwise than at its end.

    `again` runs the same a second time, beside the first report.
    """
    where, name = pair.folder, f"{mode}{'-again' if again else ''}"
    job = pair.job() | {"mode": mode}
    if mode == "jurigged":
        job["old"] = str(where / "old-jurigged")  # jurigged follows files: these will change
    elif mode == "control":
        job["arguments"] = []
    elif mode == "new":
        job |= {"live": "", "check": ""}
    if mode != "control":
        job["controls"] = []
    key = _key(job)
    kept = where / f"{name}.report.json"
    if kept.exists():
        report: Report = json.loads(kept.read_text())
        if report.get("key") == key:
            return report
        kept.unlink()
    if mode == "jurigged":
        shutil.rmtree(job["old"], ignore_errors=True)
        shutil.copytree(where / "old", job["old"])
    died = _child(job, where / name, kept)
    report = json.loads(kept.read_text()) if kept.exists() else {}
    report |= {"key": key, "died": died}
    kept.write_text(json.dumps(report))
    return report


def _key(job: Report) -> str:
    """What a report depends on: the child, its job, and the engine, where that takes part."""
    parts = [CHILD.read_text(), json.dumps(job, sort_keys=True)]
    if job["mode"] == "zdpatch":
        parts.append(engine_digest())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _child(job: Report, stem: Path, report: Path) -> str:
    """Run the child; "" or how it died."""
    task = stem.with_suffix(".job.json")
    task.write_text(json.dumps(job))
    root = job["new"] if job["mode"] == "new" else job["old"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, str(ROOT / "src")]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    python = stem.parent / "venv" / "bin" / "python"
    program = Path(shutil.copy(CHILD, stem.parent))  # a test may write to its own sys.argv[0]
    limit = OTHER_WAY_LIMIT_S if job["mode"] in ("reload", "jurigged") else LIMIT_S
    with stem.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(
            [str(python), str(program), str(task), str(report)],
            env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            status = child.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(child)
    if status is None:
        return f"did not end in {limit} s"
    if status == 0:
        return ""
    last = stem.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    return f"ended with {status}: {last[-1] if last else ''}"


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it started: its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
