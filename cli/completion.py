"""The completion script comes from the commands themselves, so it cannot be out of date."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from zdpatch.cli.main import COMPLETION, cli
from zdpatch.cli.output import Command, Output, pass_output


@click.command(
    "completion",
    cls=Command,
    short_help="Print the completion script of a shell.",
    examples=[
        "zdpatch completion bash > ~/.local/share/bash-completion/completions/zdpatch",
        "zdpatch completion zsh > ~/.zfunc/_zdpatch",
        "zdpatch completion fish > ~/.config/fish/completions/zdpatch.fish",
    ],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_output
def completion(output: Output, /, *, shell: str) -> None:
    """Print the script that completes `zdpatch` in SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(cli, {}, "zdpatch", COMPLETION).source()
    data: dict[str, object] = {"shell": shell, "script": script}
    output.result("zdpatch.completion/v1", data, [script])
