"""Only the service's own user, and a configured group of operators, can reach an agent.

HOME/                    0700, or 0710 for the group
HOME/agents/             0700, or 0750
HOME/agents/<agent>/     0700, or 0750: agent.json and the socket `s`
HOME/apps/<app>/         0700: journal.db, blobs/ and files/
"""

from __future__ import annotations

import contextlib
import grp
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent.identity import ProcessKey, life
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from zdpatch.agent.config import Config
    from zdpatch.agent.identity import Identity

JOURNAL: Final = "journal.db"
_PRIVATE: Final = 0o700
_LISTED: Final = 0o750
_PASSED: Final = 0o710
_UNANNOUNCED_S: Final = 60  # an empty directory this old belongs to nobody
_PARTIAL: Final = "agent.json.part"


class AgentFile(msgspec.Struct, frozen=True):
    """`agent.json`: how to find one agent. `ticks` and `boot` name its process for ever."""

    agent: str
    app: str
    release: str
    pid: int
    started: float
    ticks: int
    boot: str
    endpoint: str
    labels: dict[str, str]
    python: str
    host: str

    @property
    def key(self) -> ProcessKey:
        """The process it belongs to."""
        return ProcessKey(self.pid, self.ticks, self.boot)


def files_of(config: Config) -> Path:
    """Where folders of packages with patched data files are kept for an application."""
    return config.home / "apps" / config.app / "files"


class Home:
    """The directories of one agent under one home.

    Raises OperatorError ZDP-002 where they are unsafe.
    """

    def __init__(self, config: Config) -> None:
        self.root: Final = config.home
        self.app_dir: Final = config.home / "apps" / config.app
        self.gid: Final = None if config.group is None else group_id(config.group)
        self._path_bytes: Final = config.settings.socket_path_bytes

    def prepare(self) -> None:
        """Make the directories that are missing, with their modes; refuse what others can write."""
        listed = _PRIVATE if self.gid is None else _LISTED
        passed = _PRIVATE if self.gid is None else _PASSED
        self.root.parent.mkdir(parents=True, exist_ok=True)
        self._directory(self.root, passed)
        self._directory(self.root / "agents", listed)
        self._directory(self.root / "apps", _PRIVATE)
        self._directory(self.app_dir, _PRIVATE)

    def _directory(self, path: Path, mode: int) -> None:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=_PRIVATE)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
            raise OperatorError(
                "ZDP-002", f"{path} is not a directory of this user", next=f"ls -ld {path}"
            )
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            raise OperatorError("ZDP-002", f"others can write to {path}", next=f"chmod go-w {path}")
        if self.gid is not None and mode != _PRIVATE and found.st_uid == os.geteuid():
            self._open_to_group(path, mode | stat.S_IMODE(found.st_mode))

    def _open_to_group(self, path: Path, mode: int) -> None:
        assert self.gid is not None
        try:
            os.chown(path, -1, self.gid)
        except PermissionError:
            raise OperatorError(
                "ZDP-002",
                f"{path} cannot be given to group {self.gid} (ZDPATCH_GROUP): the user of this"
                " process is not a member",
                next="usermod --append --groups GROUP USER, and restart the service",
            ) from None
        path.chmod(mode)

    def open_door(self, identity: Identity) -> Door:
        """Make this agent's own directory, with a socket path that is short enough."""
        listing = self.root / "agents" / identity.agent
        listing.mkdir(mode=_PRIVATE, exist_ok=True)  # there after an attempt that failed
        place = listing
        if len(os.fsencode(place / "s")) > self._path_bytes:
            place = self._short_place()
        if self.gid is not None:
            for path in {listing, place}:
                self._open_to_group(path, _LISTED)
        return Door(listing, place, self.gid)

    def _short_place(self) -> Path:
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        # an operators' group cannot pass a private runtime directory
        if not runtime or self.gid or len(os.fsencode(runtime)) > self._path_bytes - 30:
            runtime = "/tmp"  # noqa: S108 - the directory made in it is new, private, unguessable
        place = Path(runtime) / f"zdpatch-{os.urandom(8).hex()}"
        place.mkdir(mode=_PRIVATE)
        return place

    def sweep(self, here: ProcessKey) -> None:
        """Remove what agents of dead processes of this user left behind."""
        for found in read_agents(self.root):
            listing = self.root / "agents" / found.agent
            with contextlib.suppress(OSError):
                if life(found.key, here) == "dead" and listing.lstat().st_uid == os.geteuid():
                    place = Path(found.endpoint.removeprefix("ipc://")).parent
                    Door(listing, place, None).close()
        for listing in (self.root / "agents").iterdir():
            # made, and not announced: its process died in between
            with contextlib.suppress(OSError):
                if listing.stat().st_mtime < time.time() - _UNANNOUNCED_S:
                    listing.rmdir()


class Door:
    """One agent's directory and socket path; `close` leaves nothing."""

    def __init__(self, listing: Path, place: Path, gid: int | None) -> None:
        self.listing: Final = listing
        self.socket: Final = place / "s"
        self.gid: Final = gid

    @property
    def endpoint(self) -> str:
        """Where the ROUTER binds."""
        return f"ipc://{self.socket}"

    def intact(self) -> bool:
        """Whether socket and agent.json are where they were put: some clean up what looks old."""
        return self.socket.exists() and (self.listing / "agent.json").exists()

    def announce(self, identity: Identity) -> None:
        """Write agent.json, in one step; from here on the agent can be found."""
        content = msgspec.json.encode(
            AgentFile(
                agent=identity.agent,
                app=identity.app,
                release=identity.release,
                pid=identity.key.pid,
                started=identity.started,
                ticks=identity.key.ticks,
                boot=identity.key.boot,
                endpoint=self.endpoint,
                labels=dict(identity.labels),
                python=identity.python,
                host=identity.host,
            )
        )
        self.socket.chmod(0o600 if self.gid is None else 0o660)
        partial = self.listing / _PARTIAL
        partial.write_bytes(content)
        partial.chmod(0o600 if self.gid is None else 0o640)
        if self.gid is not None:
            os.chown(self.socket, -1, self.gid)
            os.chown(partial, -1, self.gid)
        partial.rename(self.listing / "agent.json")

    def close(self) -> None:
        """Remove socket, agent.json and the directories made for them."""
        # exactly these: a path out of a file must not lead to the removal of anything else
        files = (self.socket, *(self.listing / name for name in ("agent.json", _PARTIAL)))
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        for directory in (self.listing, self.socket.parent):
            with contextlib.suppress(OSError):
                directory.rmdir()


def read_agents(root: Path) -> list[AgentFile]:
    """Every readable agent.json of a home, dead ones too, in the order of their names."""
    found: list[AgentFile] = []
    for path in sorted((root / "agents").glob("*/agent.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            entry = msgspec.json.decode(path.read_bytes(), type=AgentFile)
            # the name of the directory is what counts: it is what gets removed
            if entry.agent == path.parent.name:
                found.append(entry)
    return found


def group_id(name: str) -> int:
    """The gid of a group given by name or number. Raises OperatorError ZDP-002."""
    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise OperatorError(
            "ZDP-002", f"there is no group {name!r} (ZDPATCH_GROUP)", next=f"getent group {name}"
        ) from None
