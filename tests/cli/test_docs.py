"""The pages about errors and commands are complete: each id, command, option, schema, exit code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from zdpatch.cli import errors
from zdpatch.cli.main import COMMANDS, cli
from zdpatch.patcher.errors import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ERRORS = (ROOT / "docs/errors.md").read_text()
CLI = (ROOT / "docs/cli.md").read_text()


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, by its full name."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield f"{path} {name}", command
            if isinstance(command, click.Group):
                yield from commands(command, f"{path} {name}")


ALL = dict(commands(cli, "zdpatch"))


def section(page: str, heading: str) -> str:
    """The text below a heading, to the next heading of the same or a higher level."""
    pattern = rf"^(#+) {re.escape(heading)}$(.*?)(?=^#{{1,3}} |\Z)"
    found = re.search(pattern, page, re.MULTILINE | re.DOTALL)
    assert found, f"no section {heading!r}"
    return found[2]


@pytest.mark.parametrize("code", CATALOGUE)
def test_every_error_is_explained(code: str) -> None:
    """Each id has a section under its own title: what it means, the state, what to do."""
    text = section(ERRORS, f"{code} {CATALOGUE[code]}")
    for word in ("**Means**", "**State**", "**Do**"):
        assert word in text


def test_no_error_is_invented() -> None:
    """The page explains no id that does not exist."""
    assert set(re.findall(r"^### (ZDP-\d+)", ERRORS, re.MULTILINE)) == set(CATALOGUE)


def test_exit_codes_of_the_hundreds() -> None:
    """The table of hundreds is what the program does."""
    rows = dict(re.findall(r"^\| ZDP-(\d)xx \| (\d+) \|", ERRORS, re.MULTILINE))
    assert {code[4] for code in CATALOGUE} == set(rows)
    for hundred, code in rows.items():
        assert errors.exit_code(f"ZDP-{hundred}01") == int(code)


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option(name: str) -> None:
    """Each command has a section that names each of its own options."""
    text = section(CLI, f"`{name}`")
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option) and not {"--json", "--home"} & {*parameter.opts}:
            long = max(parameter.opts, key=len)
            assert f"`{long}" in text, long


def test_no_command_is_invented() -> None:
    """The page describes no command that does not exist."""
    assert set(re.findall(r"^### `(zdpatch [a-z ]+)`$", CLI, re.MULTILINE)) == set(ALL)


def test_every_schema() -> None:
    """Each schema in the sources is in the page, and the other way round."""
    sources = "".join(path.read_text() for path in (ROOT / "cli").glob("*.py"))
    pattern = r"zdpatch\.[a-z]+/v\d"
    assert set(re.findall(pattern, sources)) - {"zdpatch.check/v0"} <= set(re.findall(pattern, CLI))


def test_every_exit_code() -> None:
    """Each exit code of the program has a row."""
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI, re.MULTILINE)}
    named = {value for name, value in vars(errors).items() if name.isupper() and type(value) is int}
    assert named | {errors.exit_code(code) for code in CATALOGUE} <= rows


def test_list_of_commands_is_the_module_list() -> None:
    """No command module is forgotten in the list."""
    modules = {module for module, _ in COMMANDS.values()}
    for path in (ROOT / "cli").glob("*.py"):
        if re.search(r"^@click\.command\(", path.read_text(), re.MULTILINE):
            assert path.stem in modules
