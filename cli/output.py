"""The result goes to stdout, what happens meanwhile to stderr; colour only to a terminal.

Every command takes `--json` and `--home`; with `--json` stdout holds exactly one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import click

from zdpatch.cli.home import absolute, given_home

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


@dataclass
class Output:
    """What a command knows about where its words go. `pass_output` hands it to a command."""

    json: bool = False
    chosen_home: Path | None = None

    @property
    def home(self) -> Path:
        """What `--home` says, else the environment. Raises ZDP-002."""
        return given_home() if self.chosen_home is None else self.chosen_home

    def result(self, schema: str, data: Mapping[str, object], lines: Iterable[str]) -> None:
        """Print the result on stdout: `data` with its `schema` as JSON, or `lines` for people.

        `schema` is "zdpatch.<command>/v1". Lines must be clean (see `clean`) but may be painted.
        """
        if self.json:
            click.echo(json.dumps({"schema": schema, **data}, indent=2, ensure_ascii=False))
            return
        for line in lines:
            click.echo(line, color=self.colour)

    def progress(self, line: str) -> None:
        """Say on stderr what happens now; silent with `--json`."""
        if not self.json:
            click.echo(line, err=True, color=is_terminal(sys.stderr))

    @property
    def colour(self) -> bool:
        """Whether stdout takes colour."""
        return not self.json and is_terminal(sys.stdout)

    def paint(self, text: str, colour: str, *, bold: bool = False) -> str:
        """`text` in a colour of click ("red", "green", ...) when stdout takes colour."""
        return click.style(text, fg=colour, bold=bold) if self.colour else text

    def exit(self, code: int) -> None:
        """End the command with this exit code, after its result was printed."""
        click.get_current_context().exit(code)


pass_output = click.make_pass_decorator(Output, ensure=True)


def is_terminal(stream: IO[str] | None) -> bool:
    """Whether colour and glyphs may go there: a terminal, without NO_COLOR, that is not dumb.

    None is a stream that was closed before this process began.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and stream.isatty()


def clean(text: object) -> str:
    """`text` without control characters: a name from outside must not drive the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def table(rows: Sequence[Sequence[object]], *, head: Sequence[str] = ()) -> list[str]:
    """Columns two spaces apart, cells cleaned; the last column is not padded."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if head and cells:
        cells.insert(0, list(head))
    if not cells:
        return []
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]) - 1)]
    lines: list[str] = []
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return lines


def count(number: int, one: str, many: str = "") -> str:
    """`count(1, "agent") == "1 agent"`, `count(2, "agent") == "2 agents"`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Output).json = True


def _set_home(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Output).chosen_home = absolute(value)


def common_options() -> list[click.Option]:
    """`--json` and `--home`, which every command and the group itself take."""
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_set_json,
            help="Print one JSON object on stdout.",
        ),
        click.Option(
            ["--home"],
            metavar="DIR",
            is_eager=True,
            expose_value=False,
            callback=_set_home,
            help="Where zdpatch keeps everything (default: ZDPATCH_HOME, or the XDG state home).",
        ),
    ]


class Command(click.Command):
    """A command with `--json`, `--home` and an Examples section.

    Use: `@click.command("confirm", cls=Command, examples=["zdpatch confirm FIX-7"])`.
    """

    # Any: what click's own class takes is handed on as it came.
    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        examples: Sequence[str] = (),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the epilog."""
        write_examples(formatter, self.examples)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    """A group of such commands: `@click.group("trust", cls=Group)`, `@trust.command("show")`."""

    command_class = Command

    # Any: what click's own class takes is handed on as it came.
    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        examples: Sequence[str] = (),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(common_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the epilog."""
        write_examples(formatter, self.examples)
        super().format_epilog(ctx, formatter)


def write_examples(formatter: click.HelpFormatter, examples: Sequence[str]) -> None:
    """The Examples section of a help text, one command a line, unwrapped."""
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':{formatter.current_indent}}{example}\n")
