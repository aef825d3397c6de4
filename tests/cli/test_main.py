"""Every run ends with a result or an error with an id, and only the invoked command is imported."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli import errors, status
from zdpatch.cli.main import COMMANDS, LazyGroup
from zdpatch.cli.main import cli as group
from zdpatch.cli.output import clean, count, table
from zdpatch.patcher.errors import CATALOGUE, BugError, OperatorError, Refused, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Fleet


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(cli: Cli, name: str) -> None:
    """Every command has --help with examples, and takes --json and --home."""
    ran = cli(name, "--help")
    assert ran.code == 0
    for word in ("--json", "--home", "Examples:" if name != "trust" else "Commands:"):
        assert word in ran.out


def test_help(cli: Cli) -> None:
    """--help lists the commands; without a command it is an error that shows the same."""
    ran = cli("--help")
    assert ran.code == 0
    assert all(re.search(rf"^  {name} ", ran.out, re.MULTILINE) for name in COMMANDS)
    bare = cli.process()
    assert bare.code == 2
    assert "Commands:" in bare.err


def test_listing_matches_the_commands(cli: Cli) -> None:
    """The help line of the list is the command's own."""
    assert isinstance(group, LazyGroup)
    for name, (_, line) in COMMANDS.items():
        command = group.commands.get(name) or group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert command.get_short_help_str(200) == line


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        (
            "status",
            {"cryptography", "rich", "psutil", "zdpatch.patcher.diff", "asyncio", "sqlite3"},
        ),
        (
            "push",
            {
                "rich",
                "psutil",
                "difflib",
                "zdpatch.patcher.diff",
                "zdpatch.patcher.engine",
                "asyncio",
            },
        ),
        ("check", {"zmq", "rich", "psutil"}),
    ],
)
def test_imports_are_lean(command: str, absent: set[str]) -> None:
    """A command does not import what it does not need."""
    code = (
        "import sys; from zdpatch.cli.main import cli;"
        f"cli.get_command(None, {command!r}); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not absent & set(done.stdout.split())


def test_unknown_command(cli: Cli) -> None:
    """A typing error is usage, with the command that was perhaps meant."""
    ran = cli("statsu")
    assert ran.code == 2
    assert "error ZDP-001: bad usage" in ran.err
    assert "'status'" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize("arguments", [("push",), ("push", "--nonsense"), ("hold", "extra")])
def test_usage_as_json(cli: Cli, arguments: tuple[str, ...]) -> None:
    """With --json a usage error is an object on stdout too, wherever --json stands."""
    ran = cli(*arguments, "--json")
    assert ran.code == 2
    assert ran.json["schema"] == "zdpatch.error/v1"
    assert ran.error["code"] == "ZDP-001"
    assert "--help" in ran.error["next"]
    assert ran.err == ""


def test_a_bug_is_logged(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is ZDP-901, exit 1; its traceback is in a private file."""

    def broken(*_: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(status, "discover", broken)
    ran = cli("status")
    assert ran.code == 1
    assert "error ZDP-901" in ran.err
    assert "RuntimeError: oh" in ran.err
    log = cli.home / "cli.log"
    assert "Traceback" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_bug_without_a_home(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no log can be written, the traceback is in the error."""

    def broken(*_: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(status, "discover", broken)
    ran = cli("--home", "/dev/null/none", "status")
    assert ran.code == 1
    assert "Traceback" in ran.err


def test_version(cli: Cli) -> None:
    """--version names the program and its version."""
    assert cli("--version").out.startswith("zdpatch 0.")


def test_home_is_an_option_or_the_environment(cli: Cli) -> None:
    """--home goes before ZDPATCH_HOME, before or after the command."""
    assert str(cli.home) in cli.process("status").out
    assert "/tmp/x-y" in cli.process("status", "--home", "/tmp/x-y").out
    assert "/tmp/x-y" in cli.process("--home", "/tmp/x-y", "status").out


def test_closed_pipe(cli: Cli, fleet: Fleet) -> None:
    """A reader that went away is no crash."""
    fleet.add()
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "zdpatch.cli.main", "--home", str(cli.home), "status"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""


def streams(cli: Cli, words: str, redirect: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command under a shell that redirects its streams."""
    line = f'exec "$@" {redirect}'
    python = [sys.executable, "-m", "zdpatch.cli.main", "--home", str(cli.home), *words.split()]
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", *python],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", ">/dev/full 2>/dev/full",
                                      ">&- 2>&-", "<&- >&- 2>&-"])  # fmt: skip
@pytest.mark.parametrize("json_too", ["", " --json"])
def test_words_that_cannot_be_written(cli: Cli, fleet: Fleet, redirect: str, json_too: str) -> None:
    """An order is carried out and its exit code says so; a question without answer is exit 2."""
    agent = fleet.add()
    agent.put("1a" * 32, "confirmed")
    asked = streams(cli, "status" + json_too, redirect)
    assert asked.returncode == 2
    ordered = streams(cli, "rollback FIX-1" + json_too, redirect)
    assert ordered.returncode == 0
    assert agent.states == ["reverted"]
    refused = streams(cli, "rollback OTHER" + json_too, redirect)
    assert refused.returncode == 4
    assert streams(cli, "--help", redirect).returncode == 2
    for ran in (asked, ordered, refused):
        assert "Traceback" not in ran.stderr
        assert "ZDP-901" not in ran.stderr
    if "2>" not in redirect:
        assert "stdout cannot be written" in asked.stderr
        assert "The exit code, 0, says what was done" in ordered.stderr


def test_errors_that_cannot_be_written(cli: Cli, fleet: Fleet) -> None:
    """Without stderr the exit code is the same."""
    fleet.add()
    for redirect in ("2>/dev/full", "2>&-"):
        ran = streams(cli, "rollback OTHER", redirect)
        assert (ran.returncode, ran.stdout) == (4, "")
        assert streams(cli, "status", redirect).returncode == 0


def test_current_directory_that_is_gone(cli: Cli, tmp_path: Path) -> None:
    """A relative home in a directory that was removed is an error with an id."""
    gone = tmp_path / "gone"
    for words in (["status"], ["--home", "h", "status"]):
        gone.mkdir()
        python = [sys.executable, "-P", "-m", "zdpatch.cli.main", *words]
        ran = subprocess.run(
            ["/bin/sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *python],
            cwd=gone,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ZDPATCH_HOME": "h"},
        )
        assert ran.returncode == 2
        assert ran.stderr.startswith("error ZDP-002")
        assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(cli: Cli, shell: str) -> None:
    """The completion script names the command and its variable."""
    ran = cli("completion", shell)
    assert ran.code == 0
    assert "_ZDPATCH_COMPLETE" in ran.out


def test_completion_works(cli: Cli) -> None:
    """What the script asks for is answered with commands."""
    ran = cli.process(COMP_WORDS="zdpatch ro", COMP_CWORD="1", _ZDPATCH_COMPLETE="bash_complete")
    assert "rollback" in ran.out


def test_every_id_has_an_exit_code() -> None:
    """The hundred of each id of the catalogue decides, and no id is a bug by accident."""
    for code in CATALOGUE:
        assert (errors.exit_code(code) == errors.BUG) == (code[4] == "9")
    assert [errors.exit_code(f"ZDP-{n}01") for n in "012345"] == [2, 3, 4, 9, 5, 6]
    assert errors.exit_code("ZDP-777") == errors.BUG


def test_error_text() -> None:
    """Headline, cause, verdicts, state and next command, indented below the id."""
    verdict = Verdict("a:B", 3, "header", "R", "bases change", "replace it")
    error = Refused("ZDP-202", "1 edit", (verdict,), next="zdpatch check F")
    assert errors.error_lines(error) == [
        "error ZDP-202: edit is not safe in place",
        "  1 edit",
        "  R  a:B:3  header: bases change",
        "     replace it",
        "  Nothing was changed.  Next:  zdpatch check F",
    ]


def test_error_json() -> None:
    """The object has the id, title, cause, state, next command and exit code."""
    body = errors.error_json(OperatorError("ZDP-401", "none", next="zdpatch status"))
    assert json.loads(json.dumps(body)) == {
        "schema": "zdpatch.error/v1",
        "error": {
            "code": "ZDP-401",
            "title": "no agent matches",
            "cause": "none",
            "state": "Nothing was changed.",
            "next": "zdpatch status",
            "exit": 5,
        },
    }


def test_unknown_id_of_a_newer_agent() -> None:
    """An id that this command does not know is still shown."""
    assert errors.error_lines(BugError("ZDP-999", "x"))[0] == "error ZDP-999: unknown error"


def test_text_from_outside_is_cleaned() -> None:
    """Control characters of names cannot drive the terminal."""
    assert clean("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"
    assert table([("a\tb", 1), ("c", 22)], head=("X", "Y")) == ["X     Y", "a\\tb  1", "c     22"]
    assert (count(1, "agent"), count(2, "process", "processes")) == ("1 agent", "2 processes")


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_every_error_has_a_next_command(code: str) -> None:
    """Whoever raises it without one: the id knows what to do."""
    lines = errors.error_lines(OperatorError(code, "cause"))
    assert lines[-1].split("Next:  ")[1] == errors.NEXT[code]
