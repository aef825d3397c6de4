"""Every run of `zdpatch` ends with a result or an error with an id, and a code that says how it is.

Only the module of the invoked command is imported: `zdpatch status` does not pay for cryptography.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

import zdpatch
from zdpatch.cli import errors
from zdpatch.cli.home import private_directory
from zdpatch.cli.output import Group, Output, clean, is_terminal
from zdpatch.cli.streams import lossy_streams
from zdpatch.patcher.errors import BugError, OperatorError, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION: Final = "_ZDPATCH_COMPLETE"

# command -> (module of zdpatch.cli that holds a click command of the same name, help line)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "keygen": ("keys", "Make a signing key."),
    "trust": ("rotate", "Say whose signatures count here."),
    "build": ("build", "Make a bundle from two versions of a source."),
    "check": ("check", "Say offline what each edit of a bundle needs."),
    "test": ("test", "Run a suite in a hot-patched process and in a fresh one."),
    "inspect": ("inspect", "Show what a bundle claims and who signed it."),
    "sign": ("sign", "Add signatures to a bundle."),
    "run": ("run", "Start a service whose workers can be replaced."),
    "replace": ("replace", "Replace the workers of a service."),
    "push": ("push", "Put a bundle into running processes."),
    "status": ("status", "Show the running processes and their patches."),
    "history": ("history", "Show what happened to the patches of each process."),
    "audit": ("history", "Show the audit trail and whether its chain holds."),
    "confirm": ("confirm", "Keep a patch that is on trial."),
    "rollback": ("rollback", "Take a patch out again."),
    "hold": ("hold", "Refuse new patches for a while."),
    "diff": ("diff", "Show the source that a patch changes."),
    "export": ("export", "Write a patch as a git patch, for the next release."),
    "completion": ("completion", "Print the completion script of a shell."),
}


ORDERS: Final = frozenset(
    {"keygen", "trust", "build", "sign", "push", "confirm", "rollback", "hold", "run", "replace"}
)
"""What these did is done, whether it could be said or not; the others only have words to give."""


class LazyGroup(Group):
    """The group of `COMMANDS`; a module is imported when its command is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of a patch's way."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"zdpatch.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one was perhaps meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - 16 ms that only a typing error pays

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    "zdpatch",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=[
        "zdpatch build --from jinja2==3.1.5 --to jinja2==3.1.6 --app shop -o fix.zdp --sign ci.key",
        "zdpatch push fix.zdp --plan",
        "zdpatch push fix.zdp --trial 10m --wait",
        "zdpatch status --require CVE-2025-27516",
    ],
)
@click.version_option(zdpatch.__version__, message="zdpatch %(version)s")
def cli() -> None:
    """Put signed fixes into running Python processes, and take them out again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code; never raises for anything a command does."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with lossy_streams() as stdout:
        if COMPLETION in os.environ:
            cli.main(given, prog_name="zdpatch", complete_var=COMPLETION)
        code = _run(given)
        if stdout is not None:
            sys.stdout.flush()
            code = _answered(code, given, stdout.lost)
    return code


def _run(given: Sequence[str]) -> int:
    output = Output(json="--json" in given)
    try:
        # Not click's own main: that would end anything unforeseen without an id.
        with cli.make_context("zdpatch", list(given), obj=output) as context:
            cli.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except Exception as error:  # noqa: BLE001 - this is the edge: each error becomes text and code
        return _report(error, output)
    except KeyboardInterrupt:
        return _report(click.Abort(), output)
    return errors.DONE


def _answered(code: int, given: Sequence[str], lost: OSError | None) -> int:
    """The exit code when what was printed on stdout was `lost`: first of all, what was done."""
    if lost is None:
        return code
    if isinstance(lost, BrokenPipeError):  # whoever read us has seen enough
        return code or errors.PIPE_CLOSED
    words = f"stdout cannot be written: {lost.strerror or lost}"
    command = next((word for word in given if word in COMMANDS), "")
    if code or command in ORDERS:
        click.echo(f"{words}. The exit code, {code}, says what was done.", err=True)
        return code
    _print_error(OperatorError("ZDP-002", words))
    return errors.USAGE


def _report(error: Exception, output: Output) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return errors.USAGE
    if isinstance(error, click.Abort):
        click.echo("interrupted", err=True)
        return errors.DETACHED
    known = _as_zdpatch_error(error, output)
    if output.json:
        output.result(errors.ERROR_SCHEMA, errors.error_json(known), ())
    else:
        _print_error(known)
    return errors.exit_code(known.code)


def _as_zdpatch_error(error: Exception, output: Output) -> ZdpatchError:
    if isinstance(error, ZdpatchError):
        return error
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if isinstance(context, click.Context) else "zdpatch"
        return errors.usage(error.format_message(), next=f"{path} --help")
    return BugError(
        "ZDP-901",
        f"{type(error).__name__}: {error}\n{_log_traceback(error, output)}",
        state="What was done is unknown.",
        next="zdpatch status",
    )


def _print_error(error: ZdpatchError) -> None:
    colour = is_terminal(sys.stderr)
    headline, *rest = map(clean, errors.error_lines(error))
    if colour:
        word, _, tail = headline.partition(" ")
        headline = f"{click.style(word, fg='red', bold=True)} {click.style(tail, bold=True)}"
    for line in (headline, *rest):
        click.echo(line, err=True, color=colour)


def _log_traceback(error: Exception, output: Output) -> str:
    """Append the traceback to the home's log; when that fails, the words to show hold it."""
    import traceback  # noqa: PLC0415 - as above

    text = "".join(traceback.format_exception(error))
    try:
        path = private_directory(output.home) / "cli.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "a", encoding="utf-8") as log:  # noqa: PTH123 - it is a descriptor
            log.write(text)
    except (OSError, ZdpatchError):
        return text
    return f"The traceback is in {path}."


if __name__ == "__main__":
    sys.exit(main())
