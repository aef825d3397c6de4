"""`run` starts a service under a supervisor, which is this very process until the service ends."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from zdpatch.agent.config import is_app
from zdpatch.cli import errors
from zdpatch.cli.home import private_directory
from zdpatch.cli.options import Duration
from zdpatch.cli.output import Command, Output, pass_output
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMES: Final = ("ready", "drain", "warm", "stop", "spread", "orphan")


def _configured(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    """The file's values stand below flags and environment."""
    if value is not None:
        context.default_map = {**(context.default_map or {}), **read_config(value)}


def read_config(path: Path) -> dict[str, Any]:
    """The table `run` of a TOML file. Raises ZDP-002."""
    known = {"name", "app", "bind", "workers", "command", *_TIMES}
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text("utf-8")).get("run", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OperatorError("ZDP-002", f"{path} cannot be read: {error}") from error
    if not isinstance(table, dict):  # pyright: ignore[reportUnnecessaryIsInstance] - a file says it
        raise OperatorError("ZDP-002", f"{path}: run is not a table")
    unknown = sorted(set(table) - known)
    if unknown:
        raise OperatorError("ZDP-002", f"{path}: nobody knows run.{unknown[0]}")
    return table


@click.command(
    "run",
    cls=Command,
    short_help="Start a service whose workers can be replaced.",
    examples=[
        "zdpatch run --bind 127.0.0.1:8000 --workers 4 -- uvicorn shop:app",
        "zdpatch run --bind unix:/run/shop.sock --app shop -- gunicorn shop:app",
        "zdpatch run --config zdpatch.toml",
    ],
    context_settings={"auto_envvar_prefix": "ZDPATCH_RUN"},
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=_configured,
    help="A TOML file; its table `run` has these options, and `command`.",
)
@click.option("--bind", "-b", multiple=True, metavar="ADDR", help="Listen there; may be repeated.")
@click.option("--workers", "-w", type=click.IntRange(1, 512), default=1, show_default=True)
@click.option("--name", default="", help="How `replace` calls it (default: --app, or `default`).")
@click.option("--app", default="", help="Run the agent of this application in each worker.")
@click.option("--ready", type=Duration(), default="60s", show_default=True, help="To get ready.")
@click.option("--drain", type=Duration(), default="30s", show_default=True, help="To finish.")
@click.option("--warm", type=Duration(), default="30s", show_default=True, help="To go back to.")
@click.option("--stop", type=Duration(), default="25s", show_default=True, help="To end it all.")
@click.option(
    "--spread", type=Duration(), default="10s", show_default=True, help="To close WebSockets over."
)
@click.option(
    "--orphan", type=Duration(), default="60s", show_default=True, help="Without a supervisor."
)
@click.argument("command", nargs=-1, metavar="-- CMD...")
@pass_output
def run(  # noqa: PLR0913 - the options
    output: Output,
    /,
    *,
    bind: tuple[str, ...],
    workers: int,
    name: str,
    app: str,
    ready: float,
    drain: float,
    warm: float,
    stop: float,
    spread: float,
    orphan: float,
    command: tuple[str, ...],
) -> None:
    """Start a service whose workers can be replaced without one lost request.

    The listeners are bound here, once, and each worker inherits them (LISTEN_FDS). SIGHUP or
    `zdpatch replace` starts a new set of workers; the old ones go when the new ones are ready.
    SIGTERM and SIGINT end the service: what is in flight is finished.
    """
    from zdpatch.agent.clock import SystemClock  # noqa: PLC0415 - what follows takes a while to load
    from zdpatch.agent.fleet import Fleet  # noqa: PLC0415
    from zdpatch.agent.moves import Limits  # noqa: PLC0415
    from zdpatch.agent.running import supervise  # noqa: PLC0415
    from zdpatch.agent.sockets import parse_address  # noqa: PLC0415

    words = command or _words()
    if not words:
        raise errors.usage("There is no command after --.", next="zdpatch run --help")
    if app and not is_app(app):
        raise OperatorError("ZDP-002", f"application name {app!r} is not possible")
    name = name or app or "default"
    if not is_app(name):
        raise OperatorError("ZDP-002", f"the name {name!r} is not 1 to 64 letters, digits, . _ -")
    fleet = Fleet(
        name=name,
        directory=private_directory(output.home / "run" / name),
        command=words,
        binds=tuple(parse_address(text) for text in bind),
        workers=workers,
        app=app,
        home=output.home,
        limits=Limits(
            ready_s=ready,
            drain_s=drain,
            warm_s=warm,
            stop_s=stop,
            spread_s=spread,
            orphan_s=orphan,
        ),
    )
    supervise(fleet, SystemClock())


def _words() -> Sequence[str]:
    table = click.get_current_context().default_map or {}
    words = table.get("command", ())
    if isinstance(words, str):
        import shlex  # noqa: PLC0415 - only here

        return tuple(shlex.split(words))
    return tuple(str(word) for word in words)
