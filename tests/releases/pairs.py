"""A pair of releases is what `releases.toml` says of it, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parent.parent
TAG: Final = f"cp{sys.version_info[0]}{sys.version_info[1]}"
CACHE: Final = Path(os.environ.get("REPLAY_CACHE", ROOT / ".cache" / "replay")) / TAG


class Control(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What happens when refused `edits` are made all the same: `apply` makes them, then `broken`
    is true.

    `edits` are patterns of the paths refused, or error ids; `shows` says in words what breaks.
    """

    edits: list[str]
    shows: str
    apply: str
    broken: str


class Pair(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One row of `releases.toml`, whose head explains the fields."""

    old: str
    new: str
    needs: list[str]
    tests: list[str]
    live: str
    check: str
    fixes: list[str] = []
    hard: str = ""
    expect: str = "applied"
    packages: list[str] = []
    arguments: list[str] = []
    tests_inside: list[str] = []
    skip_import: list[str] = []
    unlike_fresh: list[str] = []
    controls: list[Control] = []

    @property
    def tops(self) -> list[str]:
        """The names that the release can be imported by."""
        return self.packages or [self.old.partition("==")[0].replace("-", "_")]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return CACHE / f"{self.old}-{self.new}".replace("==", "-")

    def job(self) -> dict[str, Any]:
        """What the child process is told."""
        return {
            "packages": self.tops,
            "old": str(self.folder / "old"),
            "new": str(self.folder / "new"),
            "root": str(self.folder / "root"),
            "arguments": self.arguments or self.tests,
            "skip_import": self.skip_import,
            "live": self.live,
            "check": self.check,
            "controls": msgspec.to_builtins(self.controls),
        }


def all_pairs(path: Path = HERE / "releases.toml") -> dict[str, Pair]:
    """Every pair, by name. Raises msgspec.ValidationError for a field that is not one."""
    return msgspec.toml.decode(path.read_bytes(), type=dict[str, Pair])
