"""Listeners, descriptors that travel, and who said that it is ready."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent import passing, readiness, sockets
from zdpatch.agent.child import Child, Ended
from zdpatch.agent.gate import Gate
from zdpatch.agent.sockets import Address, parse_address
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("127.0.0.1", 80)),
        ("[::1]:80", Address("::1", 80)),
        ("unix:/run/x", Address(path="/run/x")),
        ("unix:@x", Address(path="@x")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """Each is written as it is read."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize("text", ["80", "localhost:80", "1.2.3.4:x", "1.2.3.4:70000", "unix:x", ""])
def test_what_is_no_address(text: str) -> None:
    """Names are not looked up: they may have several addresses."""
    with pytest.raises(OperatorError, match="ZDP-001"):
        parse_address(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listener_of_tcp(host: str) -> None:
    """Connections that are accepted have TCP_NODELAY from it; the address is taken afterwards."""
    listener = sockets.bind(Address(host, 0))
    address = sockets.address_of(listener)
    with socket.create_connection((host, address.port)), listener.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(OperatorError, match="ZDP-008"):
        sockets.bind(address)
    assert not listener.get_inheritable()
    sockets.shut([listener])


def test_a_listener_of_unix(tmp_path: Path) -> None:
    """A path that a killed process left is taken; one with a listener, or a file, is not."""
    address = Address(path=str(tmp_path / "s"))
    sockets.bind(address).close()
    listener = sockets.bind(address)
    with pytest.raises(OperatorError, match="ZDP-008"):
        sockets.bind(address)
    sockets.shut([listener])
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").write_text("precious")
    with pytest.raises(OperatorError, match="ZDP-008"):
        sockets.bind(address)
    assert (tmp_path / "s").read_text() == "precious"


def test_an_abstract_listener() -> None:
    """It has no path."""
    name = f"zdpatch-test-{os.getpid()}"
    listener = sockets.bind(Address(path=f"@{name}"))
    assert sockets.address_of(listener) == Address(path=f"@{name}")
    sockets.shut([listener])


_INHERITS = """
import os, sys
from zdpatch.agent import sockets
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
found = sockets.inherited(os.environ)
print([str(sockets.address_of(one)) for one in found], "LISTEN_PID" in os.environ)
"""


@pytest.mark.parametrize("off", [0, 1])
def test_listeners_of_systemd(off: int) -> None:
    """They are taken when they are for this very process."""
    with sockets.bind(Address("127.0.0.1", 0)) as listener:
        address = str(sockets.address_of(listener))
        environ = {**os.environ, "LISTEN_FDS": "1"}
        child = Child([sys.executable, "-c", _INHERITS, str(off)], environ, [listener])
        assert select.select([child], [], [], 20)[0]
        assert child.reap() == Ended(0)
        expected = [] if off else [address]
        assert child.output.take().decode().strip() == f"{expected} False"
        assert child.output.take() == b""
        assert child.output.tail.startswith("[")
        child.close()


def test_listeners_by_address() -> None:
    """The others are closed."""
    one, other = (sockets.bind(Address("127.0.0.1", 0)) for _ in range(2))
    wanted = sockets.address_of(one)
    assert sockets.match([one, other], [wanted]) == {wanted: one}
    assert other.fileno() == -1
    one.close()


def test_descriptors_travel() -> None:
    """They arrive closed to children; those that nobody claims are closed."""
    left, right = passing.pair()
    with left, right, socket.socket() as one:
        passing.send(left, b"x", [one.fileno(), one.fileno()])
        with passing.receive(right) as packet:
            claimed, unclaimed = packet.fds
            assert not os.get_inheritable(claimed)
            packet.fds.remove(claimed)
        os.close(claimed)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(unclaimed)
        passing.send(left, b"x", [one.fileno()] * (passing.FDS_MOST + 1))
        with pytest.raises(OSError, match="cut off"):
            passing.receive(right)
        left.close()
        assert passing.receive(right).ended


_NOTIFIES = """
import socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
    words = b"READY=1\\nSTATUS=here\\nnonsense\\nEXTEND_TIMEOUT_USEC=1500000"
    one.sendto(words, "\\0" + sys.argv[1][1:])
sys.stdin.read()
"""


def test_ready_is_heard_with_who_said_it() -> None:
    """The kernel says who; a child of a child is in the tree, and another process is not."""
    notify = readiness.NotifySocket()
    assert notify.receive() is None
    with subprocess.Popen(
        [
            *("/bin/sh", "-c", '"$@"; true', "sh"),
            *(sys.executable, "-c", _NOTIFIES, notify.environ_value),
        ],
        stdin=subprocess.PIPE,
    ) as child:
        notice = None
        while notice is None:
            assert select.select([notify], [], [], 20)[0]
            notice = notify.receive()
        assert notice.ready
        assert notice.extend_s == 1.5
        assert notice.fields["STATUS"] == "here"
        assert notice.sender.pid != child.pid
        assert readiness.is_in_tree(notice.sender.pid, child.pid)
        assert not readiness.is_in_tree(child.pid, notice.sender.pid)
    assert not readiness.is_in_tree(notice.sender.pid, child.pid)
    notify.close()


def test_a_gate() -> None:
    """Closed, a client waits in the kernel; open, whoever polls is woken and finds it."""
    with sockets.bind(Address("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        gate = Gate(listener.fileno())
        with socket.create_connection(address):
            assert not select.select([listener], [], [], 0)[0]
            with pytest.raises(BlockingIOError):
                listener.accept()
            gate.open()
            listener.accept()[0].close()
        gate.close()
        gate.open()
        with socket.create_connection(address):
            listener.accept()[0].close()
