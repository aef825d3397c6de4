"""Files that a bundle brings beside the change itself are read, looked at and never executed."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from zdpatch.agent.tasks import imports_pytest
from zdpatch.cli.errors import usage
from zdpatch.patcher.attached import (
    HOOKS,
    MAX_HOOK_S,
    MAX_PROBE_S,
    Hooks,
    Probe,
    odd_hooks,
    odd_probes,
)
from zdpatch.patcher.errors import AuthorError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBE_S: Final = 10


def read_probes(
    names: Sequence[str], limit_s: int = PROBE_S
) -> tuple[list[Probe], dict[str, bytes]]:
    """The probes in files, sorted, and their sources by sha256.

    Raises ZDP-001, ZDP-004, ZDP-206 for what no agent would run.
    """
    probes: list[Probe] = []
    blobs: dict[str, bytes] = {}
    for path in map(Path, names):
        source, tree = read_module(path)
        if not _has_checks(tree):
            raise usage(f"{path} has no check: no function test_... and no table EXPECT")
        digest = hashlib.sha256(source).hexdigest()
        blobs[digest] = source
        try:
            probe = Probe(name=path.name, source=digest, timeout_s=limit_s)
            probes.append(msgspec.convert(msgspec.to_builtins(probe), Probe))
        except msgspec.ValidationError:
            raise usage(
                f"--probe {path}: a probe is called like a module, checks.py, and has at most"
                f" {MAX_PROBE_S} s"
            ) from None
    probes.sort(key=lambda probe: probe.name)
    if why := odd_probes(probes):
        raise usage(why)
    return probes, blobs


def read_hooks(name: str, limit_s: int = PROBE_S) -> tuple[Hooks, dict[str, bytes]]:
    """The hooks in a file, and their source by sha256.

    Raises ZDP-001, ZDP-004, ZDP-206 for what no agent would run.
    """
    path = Path(name)
    source, tree = read_module(path)
    digest = hashlib.sha256(source).hexdigest()
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    hooks = {
        "source": digest,
        "migrates": _literal(path, tree, "MIGRATES"),
        "upgrades": _literal(path, tree, "UPGRADES"),
        "functions": sorted(defined & {*HOOKS}),
        "timeout_s": limit_s,
    }
    if not hooks["functions"]:
        raise usage(f"{path} has none of the functions {', '.join(HOOKS)}")
    try:
        found = msgspec.convert(hooks, Hooks)
    except msgspec.ValidationError as error:
        raise usage(f"--hooks {path}: {error} (a hook has at most {MAX_HOOK_S} s)") from None
    if why := odd_hooks(found):
        raise usage(f"--hooks {path}: {why}")
    return found, {digest: source}


def _literal(path: Path, tree: ast.Module, name: str) -> list[str]:
    """A list of texts that a module binds to a name, sorted. Raises ZDP-001 for anything else."""
    found: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if not any(isinstance(each, ast.Name) and each.id == name for each in targets):
            continue
        assert isinstance(node, ast.Assign)
        try:
            found = sorted(set(ast.literal_eval(node.value)))
        except (ValueError, TypeError):
            raise usage(f"{name} in {path} is no list of paths such as 'shop.cart:Cart'") from None
    return found


def read_module(path: Path) -> tuple[bytes, ast.Module]:
    """Source and syntax tree of a file. Raises OperatorError ZDP-004, AuthorError ZDP-206."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise OperatorError("ZDP-004", f"{path} cannot be read: {error.strerror}") from error
    try:
        return source, ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 0
        raise AuthorError("ZDP-206", f"{path} line {line}: {error}") from error


def _has_checks(tree: ast.Module) -> bool:
    if imports_pytest(tree):
        return True
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                return True
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(each, ast.Name) and each.id == "EXPECT" for each in targets):
                return True
    return False
