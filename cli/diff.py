"""`diff` shows the source in a bundle; of a process, that of bundles pushed from this home."""

from __future__ import annotations

import ast
import difflib
import io
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from zdpatch.agent.protocol import Status, StatusResult
from zdpatch.cli.bundlefile import BundleFile, is_kept, kept_path, read_bundle
from zdpatch.cli.client import Client
from zdpatch.cli.fleet import IN_PLACE
from zdpatch.cli.output import Command, Output, clean, pass_output
from zdpatch.cli.select import discover
from zdpatch.patcher.errors import OperatorError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zdpatch.patcher.source import DataChange, ModuleChange

SCHEMA: Final = "zdpatch.diff/v1"
_COLOUR: Final = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    "diff",
    cls=Command,
    short_help="Show the source that a patch changes.",
    examples=[
        "zdpatch diff fix.zdp",
        "zdpatch diff fix.zdp shop.cart:Cart.total",
        "zdpatch diff shop-4121-9f3c41 shop.cart",
    ],
)
@click.argument("target", metavar="BUNDLE|AGENT")
@click.argument("definition", metavar="[DEF]", required=False, default="")
@pass_output
def diff(output: Output, /, *, target: str, definition: str) -> None:
    """Show the source that a patch changes: of BUNDLE, or of the patches active in AGENT.

    DEF is a module, module:qualname for one function, class or method, or a data file. For an AGENT
    (its id or pid) the bundle must have been pushed from this home.
    """
    path = Path(target)
    files = [read_bundle(path)] if path.is_file() else _of_agent(output, target)
    changes: list[dict[str, object]] = []
    lines: list[str] = []
    for file in files:
        patch = file.patch()
        texts = [("module", each.name, difference(each, definition)) for each in patch.changes]
        data = [each for each in patch.data if definition in {"", each.path}]
        texts += [("data", each.path, data_difference(each)) for each in data]
        for kind, name, text in texts:
            if text:
                found: dict[str, object] = {kind: name, "diff": "".join(text)}
                changes.append({"patch": file.manifest.id, **found})
                lines += [_painted(output, line) for line in text]
    if not changes and definition:
        raise OperatorError(
            "ZDP-001", f"nothing changes in {definition}", next=f"zdpatch diff {target}"
        )
    output.result(SCHEMA, {"changes": changes}, lines)


def difference(change: ModuleChange, definition: str = "") -> list[str]:
    """The unified diff of a module or of one definition of it; empty when that is the same."""
    module, _, qualname = definition.partition(":")
    if module and module != change.name:
        return []
    old, new = decoded(change.base), decoded(change.new)
    if qualname:
        old, new = excerpt(old, qualname), excerpt(new, qualname)
    before = "/dev/null" if change.base is None else f"a/{change.path}"
    after = "/dev/null" if change.new is None else f"b/{change.path}"
    return list(difflib.unified_diff(old.splitlines(True), new.splitlines(True), before, after))


def data_difference(change: DataChange) -> list[str]:
    """The unified diff of a data file that is text; of another, that it differs."""
    before = "/dev/null" if change.base is None else f"a/{change.path}"
    after = "/dev/null" if change.new is None else f"b/{change.path}"
    try:
        old, new = ((side or b"").decode().splitlines(True) for side in (change.base, change.new))
    except UnicodeDecodeError:
        sizes = " -> ".join(f"{len(side or b''):,}" for side in (change.base, change.new))
        return [f"Binary files {before} and {after} differ ({sizes} bytes)\n"]
    return list(difflib.unified_diff(old, new, before, after))


def decoded(source: bytes | None) -> str:
    """Source as text, by its own encoding cookie."""
    if source is None:
        return ""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return source.decode("utf-8", "replace")


def excerpt(source: str, qualname: str) -> str:
    """The lines of a function, class or method; "" when there is no such definition."""
    try:
        body: list[ast.stmt] = ast.parse(source).body
    except (SyntaxError, ValueError):
        return ""
    found: ast.stmt | None = None
    for name in (part for part in qualname.split(".") if part != "<locals>"):
        found = _named(body, name)
        if found is None:
            return ""
        body = getattr(found, "body", [])
    if not isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return ""
    first = min([found.lineno, *(one.lineno for one in found.decorator_list)])
    return "".join(source.splitlines(True)[first - 1 : found.end_lineno])


def _named(body: Iterable[ast.stmt], name: str) -> ast.stmt | None:
    """The last definition of `name` in these statements, also below `if` and `try`."""
    found: ast.stmt | None = None
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = node if node.name == name else found
        else:
            nested = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
            found = _named(nested, name) or found
    return found


def _of_agent(output: Output, name: str) -> list[BundleFile]:
    """The bundles of the patches in place in an agent. Raises ZDP-401, ZDP-212."""
    refs = [ref for ref in discover(output.home) if name in {ref.agent, str(ref.pid)}]
    if not refs:
        raise OperatorError(
            "ZDP-401", f"{name} is neither a bundle file nor an agent", next="zdpatch status"
        )
    with Client() as client:
        patches = client.ask(refs[:1], Status(), StatusResult)[0].need().patches
    active = [patch for patch in patches if patch.state in IN_PLACE]
    if not active:
        raise ProcessError("ZDP-212", f"no patch is in place in {name}", next="zdpatch status")
    missing = [patch.id for patch in active if not is_kept(output.home, patch.digest)]
    if missing:
        raise ProcessError(
            "ZDP-212",
            f"{', '.join(missing)} was not pushed from {output.home}, so its source is not here",
            next="zdpatch diff BUNDLE",
        )
    return [read_bundle(kept_path(output.home, patch.digest)) for patch in active]


def _painted(output: Output, line: str) -> str:
    text = clean(line.rstrip("\n").replace("\t", "    "))
    colour = _COLOUR.get(line[:1])
    return text if colour is None else output.paint(text, colour)
