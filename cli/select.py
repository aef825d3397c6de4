"""Only agents whose process lives are found, and only those that the selector names are asked."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.agent.home import AgentFile, Door, read_agents
from zdpatch.agent.identity import ProcessKey, life, own_key
from zdpatch.cli.errors import usage
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FACTS: Final = ("app", "agent", "pid", "release", "host")
_IPC: Final = "ipc://"


@dataclass(frozen=True, slots=True)
class Selector:
    """`app=shop,pid=12,pid=13`: values of a key are alternatives, all keys must hold, `*` globs."""

    wanted: Mapping[str, tuple[str, ...]]

    def matches(self, ref: AgentFile) -> bool:
        """Whether this agent is meant. A fact goes before a label of the same name."""
        return all(
            any(fnmatch.fnmatchcase(fact, value) for value in values)
            if (fact := _fact(ref, key)) is not None
            else False
            for key, values in self.wanted.items()
        )

    def means_app(self, app: str) -> bool:
        """Whether all of an application is meant, whatever its processes are."""
        return set(self.wanted) <= {"app"} and all(
            any(fnmatch.fnmatchcase(app, value) for value in values)
            for values in self.wanted.values()
        )


def _fact(ref: AgentFile, key: str) -> str | None:
    return str(getattr(ref, key)) if key in FACTS else ref.labels.get(key)


def parse_selector(text: str) -> Selector:
    """Read `--to`. An empty text means every agent. Raises ZDP-001."""
    wanted: dict[str, tuple[str, ...]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or not value:
            raise usage(
                f"{part!r} in the selector is not key=value",
                next="--to app=shop,pid=4121   (keys: app, agent, pid, release, host and labels)",
            )
        wanted[key] = (*wanted.get(key, ()), value)
    return Selector(wanted)


def discover(home: Path) -> list[AgentFile]:
    """Every living agent of this home, by app and pid; what dead ones of ours left is removed.

    A home without agents is empty, not wrong. A process of another pid namespace counts as living:
    only its answer can tell. Raises ZDP-403 when this user may not look, ZDP-002 when nobody can.
    """
    _check_readable(home / "agents")
    here = own_key()
    found: list[AgentFile] = []
    for ref in read_agents(home):
        if not ref.endpoint.startswith(_IPC):
            continue
        if life(ref.key, here) == "dead":
            _forget(home, ref)
        else:
            found.append(ref)
    return sorted(found, key=lambda ref: (ref.app, ref.pid, ref.agent))


def _check_readable(folder: Path) -> None:
    """Not being allowed to look is another thing than finding nothing."""
    try:
        os.scandir(folder).close()
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise OperatorError(
            "ZDP-403",
            f"{folder} cannot be read by this user",
            next="become the service's user, or start the service with ZDPATCH_GROUP",
        ) from error
    except OSError as error:
        raise OperatorError("ZDP-002", f"{folder} cannot be read: {error.strerror}") from error


def has_ended(ref: AgentFile, here: ProcessKey) -> bool:
    """Whether the agent's process is surely gone."""
    return life(ref.key, here) == "dead"


def chosen(agents: Iterable[AgentFile], selector: Selector) -> list[AgentFile]:
    """The agents that the selector names."""
    return [ref for ref in agents if selector.matches(ref)]


def _forget(home: Path, ref: AgentFile) -> None:
    """Remove what a dead process left behind, if it is ours to remove."""
    listing = home / "agents" / ref.agent
    with contextlib.suppress(OSError):
        if listing.lstat().st_uid == os.geteuid():
            Door(listing, Path(ref.endpoint.removeprefix(_IPC)).parent, None).close()
