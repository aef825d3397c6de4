"""The engine on this very interpreter, without transport or signature: for people who test their
patches.

It is a Python API only; the agent never offers it over the wire.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from zdpatch.agent.hooktime import limited
from zdpatch.agent.shelf import Shelf
from zdpatch.patcher import overlay, served
from zdpatch.patcher.adoption import Adoption
from zdpatch.patcher.check import check as _check
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.moving import MovingEngine
from zdpatch.patcher.tree import make_patch as _make_patch
from zdpatch.patcher.tree import tree_from_files

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zdpatch.patcher.engine import Applied, Reverted
    from zdpatch.patcher.errors import Verdict
    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.source import Patch

Tree = Path | str | Mapping[str, bytes] | Mapping[str, str]
_engine: MovingEngine | None = None


def engine(files: Path | None = None) -> MovingEngine:
    """The one engine of this interpreter, which a running agent uses too.

    `files`: where folders of packages with patched data files are made; of a temporary directory
    unless given.
    """
    global _engine  # noqa: PLW0603 - a process has one engine, made when first needed
    if _engine is None:
        _engine = MovingEngine(limited=limited)
        os.register_at_fork(after_in_child=_engine.after_fork)
    if files is not None or _engine.shelf is None:
        _engine.shelf = Shelf(files or temporary())
    return _engine


def temporary() -> Path:
    """Where folders of packages with patched data files are made without an agent."""
    import tempfile  # noqa: PLC0415 - an agent has a place of its own

    return Path(tempfile.gettempdir()) / f"zdpatch-{os.geteuid()}"


def make_patch(base: Tree, new: Tree, *, id: str = "LOCAL") -> Patch:
    """A patch from two import roots, each a directory or a mapping of "/"-separated path to source.

    Raises OperatorError ZDP-004 for a directory that is not there, and AuthorError: ZDP-211 for
    changed files that are no data of a package, ZDP-206 for what does not parse, ZDP-001 when
    nothing differs.
    """
    return _make_patch(id, tree_from_files(_files(base)), tree_from_files(_files(new)))


def serve(patch: Patch, *, new: bool) -> None:
    """Let this interpreter, which has imported nothing of a patch, find one side of it, whatever is
    on disk. Raises Refused ZDP-211 for data files that cannot be served.
    """
    overlay.serve(patch, new=new)
    served.serve(patch, Shelf(temporary()), new=new)


def check(patch: Patch) -> list[Verdict]:
    """Verdicts from the text alone; `plan` is the authority."""
    return _check(patch)


def plan(
    patch: Patch,
    *,
    drain_s: float | None = 1.0,
    adopt: Iterable[str] = (),
    replace: Iterable[str] = (),
) -> Plan:
    """Decide a patch for this interpreter; nothing is touched. Raises Refused with `verdicts`.

    `adopt` and `replace`: paths ("m:f") of what was replaced at run time, to be left alone, or to
    be put back first.
    """
    adoption = Adoption(frozenset(adopt), frozenset(replace))
    return engine().plan(patch, drain_s=drain_s, adoption=adoption)


def apply(plan: Plan) -> Applied:
    """Apply a plan. Raises Refused or ProcessError, and then nothing was changed."""
    return engine().apply(plan)


def revert(patch_id: str) -> Reverted:
    """Put back the very objects that were there. Raises ProcessError, and then nothing was
    changed.
    """
    return engine().revert(patch_id)


def _files(tree: Tree) -> dict[str, bytes]:
    if isinstance(tree, Mapping):
        return {
            path: text if isinstance(text, bytes) else text.encode() for path, text in tree.items()
        }
    root = Path(tree)
    if not root.is_dir():
        raise OperatorError("ZDP-004", f"{root} is no directory")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not _skipped(path.relative_to(root))
    }


def _skipped(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    packaging = path.parts[0].endswith((".dist-info", ".egg-info"))
    return hidden or packaging or path.suffix in {".pyc", ".pyo"}
