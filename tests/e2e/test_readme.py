"""What the README and the API page tell people to type does what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIMIT_S = 30


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of one language on a page, in order."""
    text = (ROOT / page).read_text()
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def write_files(folder: Path) -> None:
    """Write the README's files: blocks whose first line is a comment with a path."""
    for body in blocks("README.md", "python"):
        first, _, rest = body.partition("\n")
        path = folder / first.removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rest)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str], list[subprocess.Popen[bytes]]]]:
    """The README's files, an environment with `zdpatch` on its path, processes to end."""
    write_files(tmp_path)
    bin_ = str(Path(sys.executable).parent)
    env = {**os.environ, "ZDPATCH_HOME": str(tmp_path / "home"), "CI": "true"}
    env["PATH"] = bin_ + os.pathsep + env["PATH"]
    running: list[subprocess.Popen[bytes]] = []
    yield tmp_path, env, running
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def wait_for(path: Path, line: str) -> None:
    """Until the service has printed `line` after everything it printed before."""
    deadline = time.monotonic() + LIMIT_S
    while not path.exists() or path.read_text().splitlines()[-1:] != [line]:
        assert time.monotonic() < deadline, path.read_text() if path.exists() else "no output"
        time.sleep(0.05)


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_session_of_the_readme(
    session: tuple[Path, dict[str, str], list[subprocess.Popen[bytes]]],
) -> None:
    """Every command of the twenty lines works, and the service prints what the page says."""
    folder, env, running = session
    commands = [line[2:] for line in blocks("README.md", "console")[1].splitlines()]
    printed = folder / "printed"
    after = {"push": "('VAT-1',) 12.0", "rollback": "() 2.0"}
    for command in commands:
        if command.endswith("&"):
            assignment, *words = command.rstrip(" &").split()
            name, _, value = assignment.partition("=")
            with printed.open("wb") as out:
                running.append(
                    subprocess.Popen(words, cwd=folder, env={**env, name: value}, stdout=out)
                )
            wait_for(printed, "() 2.0")
            wait_for_agent(folder, env)
            continue
        done = subprocess.run(
            command.split(), cwd=folder, env=env, capture_output=True, text=True, check=False
        )
        expected = 10 if command.endswith("--plan") else 0
        assert done.returncode == expected, (command, done.stdout, done.stderr)
        if (verb := command.split()[1]) in after and not command.endswith("--plan"):
            wait_for(printed, after[verb])


def wait_for_agent(folder: Path, env: dict[str, str]) -> None:
    """Until the service's agent answers: it begins to listen within about a second."""
    deadline = time.monotonic() + LIMIT_S
    status = ["zdpatch", "status", "--json"]
    while not json.loads(subprocess.check_output(status, cwd=folder, env=env))["agents"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.e2e
def test_the_example_of_the_api_page(tmp_path: Path) -> None:
    """The Python block of the API page runs, and applies the README's fix."""
    write_files(tmp_path)
    code = "import sys; sys.path.insert(0, 'v1'); import shop.cart\n"
    code += blocks("docs/api.md", "python")[0] + "\nassert shop.cart.price(10) == 2.0\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "1"
