"""What a bundle brings that is neither module nor data file, and runs beside the application.

A probe says by what it does whether the new code is right; its name and source are signed for, like
all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PROBES: Final = 32
MAX_PROBE_S: Final = 60  # of one; all of a bundle may take as long as `MAX_PROBES_S`
MAX_PROBES_S: Final = 120
START_S: Final = 5  # of an interpreter, beside the time that a probe has

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\.py$", max_length=67)]


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A module of checks, by sha256 of its source, and how many seconds it may take.

    `where`: "fresh" is a new interpreter that finds the patched sources.
    """

    name: FileName
    source: Hex
    where: Literal["fresh"] = "fresh"
    timeout_s: Annotated[int, Meta(ge=1, le=MAX_PROBE_S)] = 10


def odd_probes(probes: Sequence[Probe]) -> str:
    """What is wrong with a bundle's probes, taken together; "" when nothing is."""
    names = [probe.name for probe in probes]
    if names != sorted(set(names)):
        return "probes are not sorted by name, or one is named twice"
    if sum(probe.timeout_s for probe in probes) > MAX_PROBES_S:
        return f"the probes together may take more than {MAX_PROBES_S} s"
    return ""


def probes_s(probes: Sequence[Probe]) -> int:
    """How many seconds they may take at most."""
    return sum(probe.timeout_s + START_S for probe in probes)
