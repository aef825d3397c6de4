"""An agent says who it is from its own process, never from anything it was sent.

A process is named by pid, start ticks and boot, because pids come back.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import socket
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import zdpatch
from zdpatch.agent.protocol import AgentInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zdpatch.agent.protocol import AgentState

Life = Literal["alive", "dead", "unknown"]
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """One process for ever: `ticks` is its start in clock ticks after boot.

    `boot` names the boot and the pid namespace.
    """

    pid: int
    ticks: int
    boot: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything an agent states about itself; `info` adds its changing state."""

    agent: str
    app: str
    release: str
    labels: Mapping[str, str]
    key: ProcessKey
    python: str
    platform: str
    host: str
    user: str
    started: float

    def info(self, state: AgentState) -> AgentInfo:
        """The part of every reply that names this agent."""
        return AgentInfo(
            agent=self.agent,
            app=self.app,
            release=self.release,
            pid=self.key.pid,
            python=self.python,
            labels=dict(self.labels),
            host=self.host,
            user=self.user,
            state=state,
            started=self.started,
            zdpatch=zdpatch.__version__,
        )


def identify(app: str, release: str, labels: Mapping[str, str]) -> Identity:
    """The identity of an agent in this very process; its id is new at every call."""
    key = own_key()
    return Identity(
        agent=f"{app[:24]}-{key.pid}-{os.urandom(3).hex()}",
        app=app,
        release=release,
        labels=labels,
        key=key,
        python=f"cp{sys.version_info.major}{sys.version_info.minor}",
        platform=sysconfig.get_platform(),
        host=socket.gethostname(),
        user=user_name(os.geteuid()),
        started=creation_time(key.ticks),
    )


def own_key() -> ProcessKey:
    """The key of this process."""
    pid = os.getpid()
    ticks = start_ticks(pid)
    if ticks is None:
        raise OSError("/proc does not show this process")
    return ProcessKey(pid, ticks, boot_name())


def boot_name() -> str:
    """The boot and the pid namespace that a pid is meant in."""
    boot = (_PROC / "sys/kernel/random/boot_id").read_bytes().decode().strip()
    return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"


def start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of `pid`; None when it is no process, or a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # the command name is in parentheses and may hold anything
    fields = stat[stat.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def creation_time(ticks: int) -> float:
    """Unix seconds of a start in clock ticks after boot, as psutil counts it."""
    for line in (_PROC / "stat").read_bytes().decode().splitlines():
        if line.startswith("btime "):
            return float(line[6:]) + ticks / os.sysconf("SC_CLK_TCK")
    raise OSError("/proc/stat has no btime")


def life(key: ProcessKey, here: ProcessKey) -> Life:
    """Whether the process of `key` still runs; "unknown" when its pid means nothing `here`."""
    boot, _, namespace = key.boot.partition("/")
    own_boot, _, own_namespace = here.boot.partition("/")
    if boot != own_boot:
        return "dead"
    if namespace != own_namespace:
        return "unknown"
    return "alive" if start_ticks(key.pid) == key.ticks else "dead"


def user_name(uid: int) -> str:
    """The name of a user, or `uid 1234`."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def find_release(app: str) -> str:
    """The version of the distribution called like the application, else a digest of the entry file.

    Importing importlib.metadata would cost 30 ms, so the directory names are read.
    """
    wanted = _normal(app)
    for entry in sys.path:
        try:
            names = os.listdir(entry or ".")  # noqa: PTH208 - thousands of names, no Path for each
        except OSError:
            continue
        for name in names:
            if name.endswith(".dist-info"):
                distribution, _, version = name.removesuffix(".dist-info").partition("-")
                if _normal(distribution) == wanted and version:
                    return version
    return _entry_digest()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _entry_digest() -> str:
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None) or sys.argv[0]
    try:
        content = Path(path).read_bytes()
    except OSError:
        content = str(path).encode("utf-8", "surrogateescape")
    return f"entry-{hashlib.sha256(content).hexdigest()[:12]}"
