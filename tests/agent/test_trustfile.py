"""The trust file decides who may change this process, so nobody else may be able to write it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent.trustfile import load_trust
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Mint


@pytest.fixture
def trust_file(mint: Mint, tmp_path: Path) -> Path:
    """A good trust file in a directory of its own."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    path = home / "trust.json"
    path.write_bytes(mint.policy().dump())
    path.chmod(0o644)
    return path


def refused(path: Path) -> OperatorError:
    """The error with which the file is refused."""
    with pytest.raises(OperatorError) as caught:
        load_trust(path)
    return caught.value


def test_good_file(mint: Mint, trust_file: Path) -> None:
    """A file that only its owner can write is used."""
    assert load_trust(trust_file) == mint.policy()
    assert load_trust(str(trust_file)) == mint.policy()


def test_no_file(trust_file: Path) -> None:
    """Without a trust file nothing is trusted, and the next command makes one."""
    for path in (trust_file.with_name("none.json"), trust_file / "none.json"):
        error = refused(path)
        assert error.code == "ZDP-113"
        assert error.next == "zdpatch trust init"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o620])
def test_file_writable_by_others(trust_file: Path, mode: int) -> None:
    """A file that group or world can write is refused, with the command that mends it."""
    trust_file.chmod(mode)
    error = refused(trust_file)
    assert error.code == "ZDP-114"
    assert error.next == f"chmod 644 {trust_file}"


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_directory_writable_by_others(trust_file: Path, mode: int) -> None:
    """A directory in which others can replace the file is refused, sticky or not."""
    trust_file.parent.chmod(mode)
    error = refused(trust_file)
    assert error.code == "ZDP-114"
    assert str(trust_file.parent) in error.next


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_directory_above_of_somebody_else(trust_file: Path, mode: int) -> None:
    """Its owner can put another directory in our place, whatever the mode says."""
    above = trust_file.parent.parent
    os.chown(above, 65534, -1)
    above.chmod(mode)
    try:
        error = refused(trust_file)
    finally:
        os.chown(above, 0, -1)
    assert error.code == "ZDP-114"
    assert "belongs to uid 65534" in error.cause


def test_directory_above_writable_by_anybody(trust_file: Path) -> None:
    """A directory above, in which anybody can rename, is refused; with a sticky bit it is not."""
    above = trust_file.parent.parent
    above.chmod(0o777)
    assert refused(trust_file).code == "ZDP-114"
    above.chmod(0o1777)
    load_trust(trust_file)


def test_symbolic_link(trust_file: Path) -> None:
    """A link is refused: its target lies where nobody looked."""
    link = trust_file.with_name("link.json")
    link.symlink_to(trust_file)
    error = refused(link)
    assert error.code == "ZDP-114"
    assert "symbolic link" in error.cause


def test_fifo_does_not_block(trust_file: Path) -> None:
    """A FIFO in its place is refused at once."""
    pipe = trust_file.with_name("pipe.json")
    os.mkfifo(pipe, 0o600)
    assert "not a plain file" in refused(pipe).cause


def test_directory_in_its_place(trust_file: Path) -> None:
    """A directory in its place is refused."""
    assert refused(trust_file.parent).code == "ZDP-114"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_of_another_user(trust_file: Path) -> None:
    """A file or directory that belongs to somebody else is refused."""
    os.chown(trust_file, 12345, -1)
    assert "uid 12345" in refused(trust_file).cause
    os.chown(trust_file, 0, -1)
    os.chown(trust_file.parent, 12345, -1)
    assert refused(trust_file).next == f"chown 0 {trust_file.parent}"


def test_malformed_file(trust_file: Path) -> None:
    """A file that is no policy is refused."""
    trust_file.write_bytes(b"{}")
    assert refused(trust_file).code == "ZDP-114"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(trust_file: Path) -> None:
    """A file that cannot be read is refused, and said to be so."""
    trust_file.chmod(0)
    assert "cannot be read" in refused(trust_file).cause
