"""What a bundle brings that is neither module nor data file, and runs beside the application.

A probe says by what it does whether the new code is right; its name and source are signed for, like
all else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_PROBES: Final = 32
MAX_PROBE_S: Final = 60  # of one; all of a bundle may take as long as `MAX_PROBES_S`
MAX_PROBES_S: Final = 120
MAX_HOOK_S: Final = 60
START_S: Final = 5  # of an interpreter, beside the time that a probe has

Hex = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Function = Literal[
    "prepare", "migrate", "upgrade", "complete", "verify",
    "undo_prepare", "undo_migrate", "downgrade", "undo_complete",
]  # fmt: skip
HOOKS: Final[tuple[str, ...]] = get_args(Function)
BACK: Final = {"migrate": "undo_migrate", "upgrade": "downgrade", "complete": "undo_complete"}
Path = Annotated[
    str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*(:[A-Za-z_][A-Za-z0-9_.]*)?$", max_length=300)
]
Paths = Annotated[list[Path], Meta(max_length=256)]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\.py$", max_length=67)]


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A module of checks, by sha256 of its source, and how many seconds it may take.

    `where`: "fresh" is a new interpreter that finds the patched sources.
    """

    name: FileName
    source: Hex
    where: Literal["fresh"] = "fresh"
    timeout_s: Annotated[int, Meta(ge=1, le=MAX_PROBE_S)] = 10


class Hooks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A module of functions that carry live state over, by sha256 of its source; see `migrate`.

    `migrates`: paths of variables ("shop.cart:RATES"), and of modules of which statements have an
    effect ("shop.cart"); `upgrades`: of classes whose objects are carried over.
    """

    source: Hex
    migrates: Paths
    upgrades: Paths
    functions: Annotated[list[Function], Meta(min_length=1, max_length=len(HOOKS))]
    timeout_s: Annotated[int, Meta(ge=1, le=MAX_HOOK_S)] = 10


def odd_hooks(hooks: Hooks) -> str:
    """What is wrong with a bundle's hooks; "" when nothing is."""
    lists: dict[str, Sequence[str]] = {
        "migrates": hooks.migrates,
        "upgrades": hooks.upgrades,
        "functions": hooks.functions,
    }
    for what, names in lists.items():
        if list(names) != sorted(set(names)):
            return f"{what} of the hooks is not sorted, or names something twice"
    for name, back in BACK.items():
        if name in hooks.functions and back not in hooks.functions:
            return f"the hooks have {name} and no {back}: a rollback would have no way back"
    wanted = {
        "migrate": any(":" in path for path in hooks.migrates),
        "complete": any(":" not in path for path in hooks.migrates),
        "upgrade": bool(hooks.upgrades),
    }
    for name, is_wanted in wanted.items():
        if is_wanted != (name in hooks.functions):
            what = "UPGRADES" if name == "upgrade" else "MIGRATES"
            return f"{what} of the hooks and their function {name} go together"
    if any(":" not in path for path in hooks.upgrades):
        return "UPGRADES of the hooks names what is no class"
    return ""


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
