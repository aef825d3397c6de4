"""A patch is written where its author is: functions of a script or a notebook replace definitions,
and come out as a signed bundle like any other.

What goes into the bundle is text, of the functions and of the package that they are for. Nothing of
the package is executed, and nothing of the functions but their definition.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import zdpatch
from zdpatch.agent.config import is_app
from zdpatch.cli import builder, verdicts
from zdpatch.cli.attach import read_hooks, read_probes
from zdpatch.cli.build import PYTHONS
from zdpatch.cli.bundlefile import write_atomically
from zdpatch.cli.errors import usage
from zdpatch.cli.home import given_home
from zdpatch.cli.import_root import Source, read_directory
from zdpatch.cli.sign import add_signatures
from zdpatch.cli.signers import load_signers
from zdpatch.cli.sources import narrowed, read_source
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher import check as offline
from zdpatch.patcher.errors import AuthorError, OperatorError
from zdpatch.patcher.grafts import graft
from zdpatch.patcher.manifest import Manifest, Origin, Target, describe, hooks_of
from zdpatch.patcher.tree import make_patch, tree_from_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zdpatch.patcher.errors import Verdict
    from zdpatch.patcher.source import Patch

_F = TypeVar("_F", bound="Callable[..., Any]")
_OWN: Final = ("replaces",)


class Draft:
    """One patch in the making, for the processes of `app`.

    `base` is what they run: a directory, git:REV, a wheel, or name==version. Without it, it is the
    package as this interpreter would import it. `probes` and `hooks` are paths of files.
    """

    def __init__(self, app: str, base: str | None = None, *, id: str | None = None) -> None:
        if not is_app(app):
            raise usage(f"{app!r} is no name of an application")
        self.app, self.id = app, id
        self.probes: list[str] = []
        self.hooks: str | None = None
        self._base = base
        self._texts: dict[str, str] = {}

    def replaces(self, path: str) -> Callable[[_F], _F]:
        """A decorator: the function takes the place of the definition at `path`
        ("shop.cart:Cart.total"); it is given back as it is. Raises OperatorError ZDP-004 when its
        text cannot be found.
        """

        def take(function: _F) -> _F:
            self.replace(path, function)
            return function

        return take

    def replace(self, path: str, function: Callable[..., Any]) -> None:
        """The same, for a function that is there already."""
        code = getattr(function, "__code__", None)
        if code is None or code.co_freevars:
            what = "has variables of another function" if code is not None else "is none"
            raise AuthorError("ZDP-206", f"the function for {path} {what}")
        try:
            self._texts[path] = inspect.getsource(function)
        except (OSError, TypeError) as error:
            raise OperatorError(
                "ZDP-004",
                f"the text of {function!r} cannot be found: {error}",
                next="define it in a file or in a notebook's cell",
            ) from error

    # ------------------------------------------------------------ what it comes to

    def patch(self) -> Patch:
        """Base and new source, as for `zdpatch.agent.local`. Raises ZDP-003 to 006, 206, 211."""
        return self._made()[0]

    def check(self) -> list[Verdict]:
        """A verdict for each edit, from the text alone."""
        return offline.check(self.patch())

    def write(  # noqa: PLR0913 - what a bundle says
        self,
        path: str | Path,
        *,
        sign: Sequence[str] = (),
        seq: int | None = None,
        not_after: str = "30d",
        fixes: Sequence[str] = (),
        notes: str = "",
        home: Path | None = None,
    ) -> str:
        """Write the bundle, signed with these keys; its id. Raises Refused ZDP-202 when an edit
        cannot go in place, and as `patch`.
        """
        keys = load_signers(sign, [], None)
        patch, base = self._made()
        found = offline.check(patch)
        if verdicts.unsafe(found):
            raise verdicts.refusal(found, next="mend the function")
        entries, data, blobs = describe(patch.changes, patch.data)
        probes, more = read_probes(self.probes)
        hooks, source = (None, {}) if self.hooks is None else read_hooks(self.hooks)
        blobs |= {**more, **source}
        created = builder.build_time(os.environ)
        manifest = Manifest(
            id=patch.id,
            seq=builder.take_seq(home or given_home(), self.app, seq),
            target=Target(app=self.app),
            python=[*PYTHONS.split(",")],
            created=created,
            not_after=builder.last_second(not_after, created),
            safety="normal",
            modules=entries,
            data=data,
            probes=probes,
            hooks=hooks,
            tools={"zdpatch": zdpatch.__version__},
            provenance=builder.provenance(os.environ, {}),
            origin=Origin(base=base.origin, new="functions"),
            fixes=sorted(fixes),
            notes=" ".join(notes.split()),
        )
        write_atomically(Path(path), add_signatures(bundles.assemble(manifest, blobs), keys))
        return patch.id

    def _made(self) -> tuple[Patch, Source]:
        if not self._texts:
            raise AuthorError("ZDP-003", "no function replaces anything yet")
        base = self._source()
        files = dict(base.files)
        for path, text in self._texts.items():
            place = _place(path, files)
            files[place] = graft(files[place], path, text, _OWN)
        old, new = tree_from_files(base.files), tree_from_files(files)
        patch = make_patch("NEW", old, new)
        if self.hooks is not None:
            patch = replace(patch, hooks=hooks_of(*read_hooks(self.hooks)))
        content = "".join(sorted(describe(patch.changes, patch.data)[2]))
        digest = hashlib.sha256(content.encode()).hexdigest()
        name = self.id or builder.default_id(self.app, base.origin, "functions", digest)
        return replace(patch, id=name.upper()), base

    def _source(self) -> Source:
        tops = sorted({path.partition(":")[0].partition(".")[0] for path in self._texts})
        if self._base is not None:
            cache = given_home() / "cache"
            return narrowed(read_source(self._base, root=None, cache=cache, here=Path.cwd()), tops)
        files: dict[str, bytes] = {}
        for top in tops:
            files |= _installed(top)
        return Source("directory", files)


def _installed(top: str) -> dict[str, bytes]:
    """The files of a package, or a module, as it would be imported; nothing is."""
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise OperatorError("ZDP-004", f"{top} is no package of files here", next="give the base")
    file = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return {file.name: file.read_bytes()}
    found = read_directory(file.parent)
    return {f"{top}/{name}": content for name, content in found.files.items()}


def _place(path: str, files: dict[str, bytes]) -> str:
    module, colon, qualname = path.partition(":")
    stem = module.replace(".", "/")
    for name in (f"{stem}.py", f"{stem}/__init__.py"):
        if colon and qualname and name in files:
            return name
    raise OperatorError("ZDP-004", f"there is no module for {path!r} in the base")
