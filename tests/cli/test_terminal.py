"""On a terminal push asks, and colour appears; elsewhere neither."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Fleet
    from tests.conftest import Mint


def on_a_terminal(cli: Cli, *arguments: str, answer: str = "", **env: str) -> tuple[int, str]:
    """Run `zdpatch` on a terminal of its own; the exit code and what the person saw."""
    near, far = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "zdpatch.cli.main", *arguments],
        stdin=far,
        stdout=far,
        stderr=far,
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "ZDPATCH_HOME": str(cli.home), **env},
    ) as process:
        os.close(far)
        os.write(near, answer.encode())
        seen = b""
        try:
            while part := os.read(near, 4096):
                seen += part
        except OSError:
            pass  # the other end is closed
    os.close(near)
    return process.returncode, seen.decode()


@pytest.fixture
def bundle(mint: Mint, tmp_path: Path) -> str:
    """A signed bundle for `shop`."""
    path = tmp_path / "fix.zdp"
    path.write_bytes(mint.bundle("ci"))
    return str(path)


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 11), ("\n", 11)])
def test_push_asks(cli: Cli, fleet: Fleet, bundle: str, answer: str, code: int) -> None:
    """The plan is shown, the question asked; anything but yes changes nothing and is exit 11."""
    agent = fleet.add()
    ended, seen = on_a_terminal(cli, "push", bundle, answer=answer)
    assert ended == code
    assert "shop.cart:price" in seen
    assert "? Apply to 1 process, on trial for 10 min?" in seen
    assert agent.states == (["trial"] if code == 0 else ["staged"])


def test_end_of_input_is_no_answer(cli: Cli, fleet: Fleet, bundle: str) -> None:
    """Ctrl-D at the question changes nothing."""
    agent = fleet.add()
    ended, _ = on_a_terminal(cli, "push", bundle, answer="\x04")
    assert ended == 130
    assert agent.states == ["staged"]


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour(cli: Cli, env: dict[str, str], coloured: bool) -> None:
    """Colour goes to a terminal that takes it, and NO_COLOR is honoured."""
    ended, seen = on_a_terminal(cli, "nonsense", **env)
    assert ended == 2
    assert ("\x1b[" in seen) is coloured
