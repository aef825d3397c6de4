"""The checks that CI runs look at all there is."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("folder", ["agent", "cli", "patcher"])
def test_pyright_is_told_of_each_folder(folder: str) -> None:
    """The folders are links below `src/zdpatch`, and pyright enters no link that it is not given:
    it says "0 errors" then.
    """
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert (ROOT / "src/zdpatch" / folder).is_symlink()
    assert f"src/zdpatch/{folder}" in config["tool"]["pyright"]["include"]
