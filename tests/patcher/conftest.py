"""What patches runs in a child interpreter of its own, so that no test can poison the next."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class RunChild(Protocol):
    """Runs a script in a fresh interpreter and returns what it printed; fails unless it exits 0."""

    def __call__(
        self,
        script: str,
        *,
        files: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> str: ...


@pytest.fixture
def run_child(tmp_path: Path) -> RunChild:
    """`files` (path to text) are importable in the child; warnings are errors there too."""

    def run(
        script: str,
        *,
        files: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> str:
        for name, text in (files or {}).items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        child = tmp_path / "child.py"
        root = str(tmp_path / "root")
        first = f"import sys; sys.path.insert(0, {root!r})\n"
        child.write_text(first + textwrap.dedent(script), encoding="utf-8")
        kept = (k for k in os.environ if k == "PYTHONPATH" or not k.startswith("PYTHON"))
        clean = {k: os.environ[k] for k in kept}
        done = subprocess.run(
            [sys.executable, "-s", "-P", "-W", "error", *flags, str(child)],
            env={**clean, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
