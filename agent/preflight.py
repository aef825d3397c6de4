"""New code answers a bundle's probes in an interpreter of its own before any is routed to it.

The sources that it finds are those of this process: what active patches made of their modules, what
the bundle makes of its own, and for all else the files as they are now. A probe that fails, or does
not end in time, refuses the patch and shows what it printed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent import apart, tasks
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher import manifest
from zdpatch.patcher.attached import START_S
from zdpatch.patcher.errors import OperatorError, Refused, Verdict
from zdpatch.patcher.source import Patch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zdpatch.agent.apart import Ran
    from zdpatch.agent.here import Here
    from zdpatch.agent.tasks import Found
    from zdpatch.patcher.attached import Probe
    from zdpatch.patcher.trust import VerifiedBundle

_LINES: Final = 30  # of what a probe printed
_WIDTH: Final = 300
_REMEMBERED: Final = 8
_OF_THE_SERVICE: Final = ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_")  # a probe is none of it
_ANSWER: Final = msgspec.msgpack.Decoder(tasks.Found)
_REMEDY: Final = "mend the patch, or the probe"


def preflight(here: Here, bundle: VerifiedBundle) -> list[str]:
    """Run the probes, unless they have passed with the same patches in; a sentence about each.

    Raises Refused ZDP-217, and OperatorError ZDP-301.
    """
    probes = bundle.manifest.probes
    key = (bundle.digest, here.active())
    if not probes or key in here.probed:
        return here.probed.get(key, [])
    patch = merged([*_active(here), bundle.patch()])
    told = [run_probe(probe, bundle.blobs[probe.source], patch) for probe in probes]
    while len(here.probed) >= _REMEMBERED:
        del here.probed[next(iter(here.probed))]
    here.probed[key] = told
    return told


def run_probe(probe: Probe, source: bytes, patch: Patch, python: str = "") -> str:
    """Run one in a fresh interpreter (`python`: which one, unless that of this process); how it
    passed, as a sentence. Raises Refused ZDP-217.
    """
    task = tasks.Task(probe.name, source, patch, probe.timeout_s)
    spec = tasks.specification(task, sys.path)
    command = [python or _interpreter(probe), *_flags(), "-c", tasks.START]
    env = {n: value for n, value in os.environ.items() if not n.startswith(_OF_THE_SERVICE)}
    env["ZDPATCH"] = "off"
    try:
        ran = apart.run(command, spec, env, start_s=START_S, limit_s=probe.timeout_s)
    except OSError as error:
        raise _refused(probe, f"{command[0]} cannot be started: {error.strerror}", b"") from error
    found = _read(probe, ran)
    failed = [case for case in found.cases if case.failure]
    if found.failure or failed:
        name, why = ("", found.failure) if found.failure else (failed[0].name, failed[0].failure)
        more = [f"{case.name} fails too" for case in failed[1:]]
        raise _refused(probe, "\n".join([why, *more]), ran.output, name)
    number = len(found.cases)
    what = "1 check passes" if number == 1 else f"{number} checks pass"
    return f"probe {probe.name}: {what} in a fresh interpreter ({ran.took_s:.1f} s)"


def merged(patches: Iterable[Patch]) -> Patch:
    """One patch with what each makes of its modules and files, the last one of it."""
    each = list(patches)
    changes = {change.name: change for patch in each for change in patch.changes}
    data = {change.path: change for patch in each for change in patch.data}
    return Patch(each[-1].id, tuple(changes.values()), tuple(data.values()))


def _active(here: Here) -> Iterator[Patch]:
    """The patches that are in, the oldest first."""
    every = [each.patch for each in here.mine.values()]
    mine = {patch.id: patch for patch in every if here.runs(patch.digest)}
    for name in here.active():
        if name in mine:
            claim, container = bundles.read_unverified(here.journal.blob(mine[name].blob))
            if bundles.parse_envelope(container.envelope).digest != mine[name].digest:
                raise OperatorError("ZDP-301", f"the bytes kept for {name} are another bundle")
            yield manifest.patch_of(claim, container.blobs)


def _read(probe: Probe, ran: Ran) -> Found:
    """What the interpreter wrote; one that ended without a word has failed."""
    if ran.ended:
        raise _refused(probe, ran.ended, ran.output)
    try:
        return _ANSWER.decode(ran.report.removeprefix(tasks.BEGUN))
    except msgspec.MsgspecError:
        raise _refused(probe, "its interpreter ended before the probe did", ran.output) from None


def _interpreter(probe: Probe) -> str:
    """The program that this process runs; a server may have Python inside of its own."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if sys.executable and Path(sys.executable).name.startswith("python"):
        return sys.executable
    if (beside := Path(sys.prefix) / "bin" / name).exists():
        return str(beside)
    raise _refused(probe, f"there is no {name} in {sys.prefix} to run it with", b"")


def _flags() -> list[str]:
    """What this interpreter was started with that decides how modules are compiled and found."""
    words = ["-O"] * sys.flags.optimize
    words += ["-s"] if sys.flags.no_user_site else []
    words += ["-S"] if sys.flags.no_site else []
    words += ["-E"] if sys.flags.ignore_environment else []
    return [*words, "-X", f"utf8={sys.flags.utf8_mode}", "-B"]


def _refused(probe: Probe, why: str, output: bytes, check: str = "") -> Refused:
    printed = output.decode("utf-8", "replace").splitlines()[-_LINES:]
    lines = [*why.splitlines(), *(["it printed:"] if printed else []), *printed]
    # who reads a log must not take a probe's lines for the agent's own
    shown = [f"| {''.join(c if c.isprintable() else ' ' for c in line)[:_WIDTH]}" for line in lines]
    cause = "\n".join([f"the probe {probe.name} fails{f': {check}' * bool(check)}", *shown])
    verdict = Verdict(f"probe:{probe.name}", 1, "probe", "X", check or "it fails", _REMEDY)
    return Refused("ZDP-217", cause, (verdict,), next=_REMEDY)
