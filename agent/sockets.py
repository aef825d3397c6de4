"""A listener is bound once and lives as long as its supervisor: every generation shares its queue.

There is no instant at which the last copy closes, so no connection is refused or forgotten while
workers change. Each copy is one open file description, never SO_REUSEPORT, which has a queue for
each socket and loses what is in it.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping, Sequence

FIRST_FD: Final = 3
"""Where inherited listeners begin, as systemd has it (sd_listen_fds(3))."""

BACKLOG: Final = 2048
_UNSET: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port, or the `path` of a unix socket ("@name": abstract)."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def family(self) -> socket.AddressFamily:
        """The family of its socket."""
        if self.path:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def parse_address(text: str) -> Address:
    """`127.0.0.1:8000`, `[::1]:8000`, `unix:/run/shop.sock`, `unix:@name`. Raises ZDP-001."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith(("/", "@")) and len(path) > 1:
            return Address(path=path)
        raise OperatorError("ZDP-001", f"{text!r}: a unix socket is unix:/PATH or unix:@NAME")
    host, _, port = text.rpartition(":")
    try:
        host = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
        return Address(host, _port(port))
    except ValueError as error:
        raise OperatorError(
            "ZDP-001", f"{text!r} is no address: {error}", next="--bind 127.0.0.1:8000"
        ) from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def bind(address: Address) -> socket.socket:
    """Listen there. Raises OperatorError ZDP-008, also when somebody else does."""
    protocol = 0 if address.path else socket.IPPROTO_TCP
    listener = socket.socket(address.family, socket.SOCK_STREAM, protocol)
    try:
        _bind(listener, address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OperatorError("ZDP-008", f"nobody can listen on {address} now: {reason}") from error
    return prepared(listener)


def _bind(listener: socket.socket, address: Address) -> None:
    if address.path:
        _bind_unix(listener, address.path)
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address.family == socket.AF_INET6:
        # else [::] takes the port of 0.0.0.0 too, which may be another --bind
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address.host, address.port))


def _bind_unix(listener: socket.socket, path: str) -> None:
    if path.startswith("@"):
        listener.bind("\0" + path[1:])
        return
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_deserted(path):
            raise
        Path(path).unlink()
        listener.bind(path)


def _is_deserted(path: str) -> bool:
    """Whether `path` is a socket that nobody listens on: what a killed process leaves."""
    if not stat.S_ISSOCK(Path(path).lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        return asking.connect_ex(path) == errno.ECONNREFUSED


def prepared(listener: socket.socket) -> socket.socket:
    """`listener`, fit for workers: accepted connections have its TCP_NODELAY on Linux."""
    listener.set_inheritable(False)
    listener.setblocking(False)
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listeners that systemd gave to this very process; the variables go, as they should.

    Raises OperatorError ZDP-008 when one of them does not listen.
    """
    values = {name: environ.pop(name, "") for name in _UNSET}
    if values["LISTEN_PID"] != str(os.getpid()) or not values["LISTEN_FDS"].isdecimal():
        return []
    return [_taken(FIRST_FD + index) for index in range(int(values["LISTEN_FDS"]))]


def _taken(descriptor: int) -> socket.socket:
    # the kernel says family, type and protocol
    try:
        listener = socket.socket(fileno=descriptor)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OperatorError(
            "ZDP-008", f"descriptor {descriptor} of LISTEN_FDS is no socket: {error.strerror}"
        ) from error
    if not listens:
        raise OperatorError("ZDP-008", f"descriptor {descriptor} of LISTEN_FDS does not listen")
    return prepared(listener)


def address_of(listener: socket.socket) -> Address:
    """Where a listener listens."""
    address = parse_local(listener.family, listener.getsockname())
    assert address is not None
    return address


def parse_local(family: int, name: object) -> Address | None:
    """The address that a server of this family binds to; None when it is of another kind."""
    if family == socket.AF_UNIX and isinstance(name, str | bytes):
        path = os.fsdecode(name)
        return Address(path="@" + path[1:] if path.startswith("\0") else path)
    if family in (socket.AF_INET, socket.AF_INET6) and isinstance(name, tuple):
        host, port = str(name[0]), int(name[1])  # pyright: ignore[reportUnknownArgumentType]
        anywhere = "0.0.0.0" if family == socket.AF_INET else "::"  # noqa: S104
        named = "127.0.0.1" if family == socket.AF_INET else "::1"
        return Address({"": anywhere, "localhost": named}.get(host, host), port)
    return None


def match(
    listeners: Iterable[socket.socket], wanted: Sequence[Address]
) -> dict[Address, socket.socket]:
    """Those of `listeners` that listen where it is `wanted`; the others are closed."""
    found: dict[Address, socket.socket] = {}
    for listener in listeners:
        address = address_of(listener)
        if address in wanted and address not in found:
            found[address] = listener
        else:
            listener.close()
    return found


def environment(listeners: Sequence[socket.socket]) -> Mapping[str, str]:
    """What tells a child of its listeners; LISTEN_PID it must say itself, of itself."""
    names = [str(address_of(listener)).replace(":", "-") for listener in listeners]
    return {"LISTEN_FDS": str(len(listeners)), "LISTEN_FDNAMES": ":".join(names)}


def forget(listeners: Iterable[socket.socket]) -> None:
    """Close these copies; others listen on."""
    for listener in listeners:
        listener.close()


def shut(listeners: Iterable[socket.socket]) -> None:
    """Close this process's copies, and remove the paths that unix sockets have."""
    for listener in listeners:
        with contextlib.suppress(OSError):
            path = address_of(listener).path
            if path.startswith("/"):
                Path(path).unlink()
        listener.close()
