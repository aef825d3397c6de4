"""Every limit and every choice of the agent is a field here, with its unit, and is read once.

`ZDPATCH` is not read here: `zdpatch.agent.start` reads it before this module is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from zdpatch.agent.protocol import OnLimit

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+-]{0,127}\Z")


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one agent. Times are seconds unless the name says otherwise."""

    replay_limit_s: float = 5.0  # start() hands what is left to the background after this
    thread_delay_s: float = 1.0  # start() to the socket: servers that preload fork before it
    child_delay_s: float = 0.5  # fork to the socket: children that live shorter stay silent
    fork_wait_s: float = 5.0  # how long a fork waits for a transaction in progress
    trial_s: int = 600  # silence after an apply reverts after this
    trial_retry_s: float = 30.0  # an undo that failed at the deadline is tried again after this
    retry_first_s: float = 1.0  # a socket or journal that does not open is tried again after this
    retry_most_s: float = 60.0  # and after twice as long each time, up to this
    follow_s: float = 2.0  # a process with patches looks so often whether they are still wanted
    young_s: float = 60.0  # and so long from its start one that a push may not have found
    told_s: float = 120.0  # a process that was told to end, and goes on, can crash again after this
    crash_limit: int = 2  # crashes in trial that quarantine a patch
    drain_s: float = 1.0  # how long a plan waits for old frames to return
    consistent_s: float = 30.0  # how long a patch may be on its way, unless its push says it
    consistent_on_limit: OnLimit = "abort"  # and what becomes of it then
    journal_wait_s: float = 2.0  # how long a write waits for another process's write
    staged_patches: int = 64  # staged and never applied; older ones are forgotten
    foreign_row_s: float = 7 * 86400.0  # rows of processes whose life cannot be seen from here
    rate_per_s: float = 200.0  # requests of one user, sustained
    rate_burst: int = 400  # requests of one user, at once
    refusals_per_s: float = 1.0  # malformed or refused requests of one user that are audited
    refusals_burst: int = 20
    source_bytes: int = 4 * 1024 * 1024  # of sources in one answer; the rest is asked for again
    source_s: float = 0.5  # of work for such an answer
    connections: int = 32  # of one user, at once
    handshake_s: float = 2.0  # a connection that does not say what it is ends
    accept_pause_s: float = 0.5  # nobody is let in while descriptors are short
    accept_say_s: float = 60.0  # how often the log hears of that
    step_s: float = 60.0  # a request from its first byte to its last, and reading an answer
    round_s: float = 0.25  # one round of reading counts as so long at most
    share_bytes: int = 17 * 1024 * 1024  # of one user's unfinished requests: two of the largest
    unfinished_bytes: int = 34 * 1024 * 1024  # of everybody's: root's share and the service's own
    inbox_look_s: float = 1.0  # how often a process looks whether something was handed in
    inbox_full_s: float = 10.0  # and goes through all names, although none came or went
    inbox_still_s: float = 2.0  # a file that is not whole is given so long since its last write
    inbox_names: int = 1000  # names that an inbox may hold
    results_kept: int = 1000  # result files of all processes
    results_s: float = 7 * 86400.0
    socket_path_bytes: int = 107  # sun_path of a unix socket without its final NUL


@dataclass(frozen=True, slots=True)
class Config:
    """What one agent was asked to be. `release` None: found out later."""

    app: str
    home: Path
    trust: Path
    group: str | None = None
    release: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    no_apply: bool = False
    now: bool = False
    inbox: Path | None = None
    settings: Settings = field(default_factory=Settings)


def default_home(environ: Mapping[str, str]) -> Path:
    """`ZDPATCH_HOME`, else the XDG state directory of this user."""
    if given := environ.get("ZDPATCH_HOME"):
        return Path(given).expanduser().absolute()
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state).absolute() / "zdpatch"
    return Path("~/.local/state/zdpatch").expanduser().absolute()


def parse_labels(text: str) -> dict[str, str]:
    """`"zone=a,tier=web"` as a dict. Raises OperatorError ZDP-002 for anything else."""
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        if not separator:
            raise OperatorError("ZDP-002", f"label {part!r} is not of the form key=value")
        labels[key.strip()] = value.strip()
    return labels


def is_app(name: str) -> bool:
    """Whether an application can be called so."""
    return _NAME.match(name) is not None


def checked(config: Config) -> Config:
    """`config` itself, when its names are fit for paths, logs and selectors; else ZDP-002."""
    if not is_app(config.app):
        raise OperatorError(
            "ZDP-002",
            f"application name {config.app!r} is not 1 to 64 letters, digits, '.', '_' or '-'",
        )
    if config.release is not None and not _VALUE.match(config.release):
        raise OperatorError("ZDP-002", f"release {config.release!r} has characters it may not have")
    for key, value in config.labels.items():
        if not _NAME.match(key) or not _VALUE.match(value):
            raise OperatorError(
                "ZDP-002", f"label {key!r}={value!r} has characters it may not have"
            )
    return config


def configure(  # noqa: PLR0913 - the arguments of `start`, and the environment
    app: str,
    labels: Mapping[str, str] | None,
    release: str | None,
    home: str | os.PathLike[str] | None,
    *,
    now: bool,
    environ: Mapping[str, str],
) -> Config:
    """Arguments of `start` over the environment over the defaults. Raises OperatorError ZDP-002."""
    where = Path(home).absolute() if home is not None else default_home(environ)
    given = environ.get("ZDPATCH_TRUST")
    inbox = environ.get("ZDPATCH_INBOX")
    return checked(
        Config(
            app=app,
            home=where,
            trust=Path(given).expanduser().absolute() if given else where / "trust.json",
            group=environ.get("ZDPATCH_GROUP") or None,
            release=release or environ.get("ZDPATCH_RELEASE") or None,
            labels={**parse_labels(environ.get("ZDPATCH_LABELS", "")), **(labels or {})},
            no_apply=environ.get("ZDPATCH", "").strip().lower() == "no-apply",
            now=now,
            inbox=Path(inbox).expanduser().absolute() if inbox else None,
        )
    )
