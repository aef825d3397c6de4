"""Ready is what a process of the worker's own tree says; an open port or a live pid says nothing.

The datagrams of sd_notify(3), with the sender's credentials from the kernel. Servers that speak it
need nothing else.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.agent.passing import Credentials, credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATAGRAM_BYTES: Final = 4096
_ANCESTORS: Final = 64  # a worker's tree is not deeper
_UCRED_BYTES: Final = 12


@dataclass(frozen=True, slots=True)
class Notice:
    """What one datagram says, and who sent it."""

    sender: Credentials
    fields: Mapping[str, str]

    @property
    def ready(self) -> bool:
        """READY=1."""
        return self.fields.get("READY") == "1"

    @property
    def extend_s(self) -> float:
        """EXTEND_TIMEOUT_USEC, in seconds; 0 when it is not said."""
        value = self.fields.get("EXTEND_TIMEOUT_USEC", "")
        return int(value) / 1e6 if value.isdecimal() else 0.0


class NotifySocket:
    """One NOTIFY_SOCKET for all workers: an abstract name that cannot be guessed."""

    def __init__(self) -> None:
        name = f"zdpatch-{os.urandom(12).hex()}"
        self.environ_value: Final = f"@{name}"
        self._socket: Final = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{name}")

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def receive(self) -> Notice | None:
        """One notice; None when there is none. One without credentials is dropped.

        What BARRIER=1 and FDSTORE=1 send along is closed: a barrier is passed by that.
        """
        space = socket.CMSG_SPACE(_UCRED_BYTES) + socket.CMSG_SPACE(4 * 16)
        while True:
            try:
                data, rights, _, _ = self._socket.recvmsg(
                    _DATAGRAM_BYTES, space, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return None
            sender = None
            for level, kind, content in rights:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    sender = credentials(content)
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    _close_all(content)
            if sender is not None:
                return Notice(sender, parse(data))

    def close(self) -> None:
        """Close it; the name goes with it."""
        self._socket.close()


def parse(data: bytes) -> dict[str, str]:
    """The fields of a datagram; lines that are none are left out."""
    lines = data.decode("utf-8", "replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _close_all(content: bytes) -> None:
    for descriptor in array.array("i", content[: len(content) - len(content) % 4]):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def is_in_tree(pid: int, root: int) -> bool:
    """Whether `pid` is `root`, or descends from it, now."""
    for _ in range(_ANCESTORS):
        if pid == root:
            return True
        parent = parent_of(pid)
        if parent is None or parent <= 1:
            return False
        pid = parent
    return False


def parent_of(pid: int) -> int | None:
    """The parent's pid; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # the command name is in parentheses and may hold anything
    return int(stat[stat.rindex(b")") + 2 :].split()[1])
