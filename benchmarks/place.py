"""A folder with a service that runs an old tree under an agent, and a signed bundle of the change.

Not a figure; several scripts push to such a service.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from zdpatch.agent.protocol import Apply, Revert, RevertResult
from zdpatch.cli import fleet
from zdpatch.cli.bundlefile import read_bundle
from zdpatch.cli.select import discover

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zdpatch.cli.client import Client

_UP_S = 20.0


class Place:
    """`service` is the program; it gets lines on its standard input, and ends with it. It has the
    old tree on its path, and a key that its agent trusts.
    """

    def __init__(
        self, path: Path, old: Mapping[str, str], new: Mapping[str, str], service: str
    ) -> None:
        self.path = path
        self.environment = {**os.environ, "ZDPATCH_HOME": str(path / "h")}
        for tree, files in (("old", old), ("new", new)):
            for name, text in files.items():
                (path / tree / name).parent.mkdir(parents=True, exist_ok=True)
                (path / tree / name).write_text(text)
        self.zdpatch("keygen", "ci.key", "--no-passphrase")
        self.zdpatch("trust", "init", "--key", "ci.pub")
        ends = ("--from", "old", "--to", "new", "--app", "shop", "-o", "fix.zdp")
        self.zdpatch("build", *ends, "--id", "fix-1", "--sign", "ci.key")
        self.bundle = read_bundle(path / "fix.zdp")
        self.service = subprocess.Popen(
            [sys.executable, "-c", service],
            cwd=path / "old",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **self.environment,
                # the same zdpatch in the service as here, also when that is not the installed one
                "PYTHONPATH": os.pathsep.join(
                    [str(path / "old"), os.environ.get("PYTHONPATH", "")]
                ),
            },
        )
        until = time.monotonic() + _UP_S
        while not list((path / "h").glob("agents/*/agent.json")):
            if time.monotonic() > until:
                raise TimeoutError("the agent did not come up")
            time.sleep(0.02)

    def push(self, client: Client) -> None:
        """Stage, plan, apply and confirm, as `zdpatch push` does."""
        agents = discover(self.path / "h")
        targets = fleet.prepare(client, self.bundle.digest, self.bundle.raw, agents)
        header = Apply(digest=self.bundle.digest, trial_s=None, confirm=True, reason="bench")
        (target,) = fleet.apply(client, header, targets)
        assert target.outcome == "applied", target

    def revert(self, client: Client) -> None:
        """Take it out again."""
        agents = discover(self.path / "h")
        (answer,) = client.ask(agents, Revert(self.bundle.digest), RevertResult)
        answer.need()

    def ask(self, line: str) -> str:
        """A line to the service, and one from it."""
        assert self.service.stdin is not None
        assert self.service.stdout is not None
        self.service.stdin.write(f"{line}\n")
        self.service.stdin.flush()
        return self.service.stdout.readline()

    def end(self) -> None:
        """Stop the service."""
        self.service.communicate()

    def zdpatch(self, *arguments: str) -> None:
        """Run the command as a process; raise when it fails."""
        self.python("-m", "zdpatch.cli.main", *arguments)

    def python(self, *arguments: str) -> None:
        """Run an interpreter."""
        subprocess.run(
            [sys.executable, *arguments],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=True,
        )
