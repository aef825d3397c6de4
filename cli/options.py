"""Options that several commands share read the same everywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import click

from zdpatch.agent.protocol import MAX_LIMIT_S, Consistently
from zdpatch.cli.errors import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.agent.protocol import OnLimit

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Duration(click.ParamType[float]):
    """`90s`, `10m`, `1h30m`, `30d`, or plain seconds; the value is seconds."""

    name = "duration"

    def convert(
        self,
        value: float | str,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Seconds. Fails as click does, which becomes ZDP-001."""
        if isinstance(value, int | float):
            return float(value)
        seconds = parse_duration(value)
        if seconds is None or seconds <= 0:
            self.fail(f"{value!r} is not a time like 90s, 10m, 1h30m or 30d", param, ctx)
        return seconds


def parse_duration(text: str) -> float | None:
    """Seconds, or None when `text` is not a duration."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(rf"({_PART.pattern})+", text):
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def show_duration(seconds: float) -> str:
    """`show_duration(5400) == "1 h 30 min"`; the two largest units."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    left = round(seconds)
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        number, left = divmod(left, size)
        if number:
            parts.append(f"{number} {unit}")
    return " ".join(parts[:2])


def to_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--to SELECTOR`."""
    return click.option(
        "--to",
        "selector",
        default="",
        metavar="SELECTOR",
        help="Which agents: key=value,... over app, agent, pid, release, host and labels.",
    )(command)


def consistent_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--consistent` and `--limit T`."""
    limit = click.option(
        "--limit", "limit_s", type=Duration(), help="How long it may be on its way."
    )
    wanted = click.option(
        "--consistent", is_flag=True, help="What has begun ends on the version it began with."
    )
    return wanted(limit(command))


def on_limit_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--on-limit`."""
    return click.option(
        "--on-limit",
        type=click.Choice(["abort", "flip"]),
        help="Then: go back, or on at once (calls in flight may see both).",
    )(command)


def consistently(
    limit_s: float | None, on_limit: OnLimit | None = None, *, wanted: bool
) -> Consistently | None:
    """What these options say together. Raises OperatorError ZDP-001."""
    if not wanted:
        if limit_s is not None or on_limit is not None:
            raise usage("--limit and --on-limit say how long --consistent may take")
        return None
    if limit_s is not None and limit_s > MAX_LIMIT_S:
        raise usage(f"a patch is on its way for {show_duration(MAX_LIMIT_S)} at most")
    return Consistently(None if limit_s is None else max(1, round(limit_s)), on_limit)


def timeout_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--timeout T` for one request to each agent."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=Duration(),
        default=10.0,
        show_default="10s",
        help="How long an agent may take to answer.",
    )(command)


def reason_option(command: Callable[..., None]) -> Callable[..., None]:
    """`-m REASON`, kept in the audit trail."""
    return click.option(
        "-m",
        "--reason",
        default="",
        metavar="TEXT",
        help="Why; kept in the audit trail.",
    )(command)
