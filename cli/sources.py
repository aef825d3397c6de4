"""Each kind of source ends as bytes by path below the import root, with its origin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from zdpatch.cli.archives import ARCHIVES
from zdpatch.cli.import_root import Source, SourceError, read_directory
from zdpatch.cli.releases import read_release
from zdpatch.cli.revision import read_git
from zdpatch.cli.sdists import read_sdist
from zdpatch.cli.wheels import read_wheel

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE_KINDS: Final = "a directory, git:REV, a wheel or sdist file, or name==version"
_RELEASE: Final = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9.!+_-]+)")


def read_source(spec: str, *, root: str | None = None, cache: Path, here: Path) -> Source:
    """Read the source that `spec` names.

    `root` is the import root inside a directory or a git tree; without it a git tree's is found.
    `cache` keeps what was fetched; `here` is where relative paths and the repository are looked up.
    Raises `SourceError`.
    """
    if spec.startswith("git:"):
        return read_git(spec.removeprefix("git:"), root=root, repository=here)
    path = here / Path(spec).expanduser()
    if path.is_dir():
        return read_directory(path / root if root else path)
    if root:
        raise SourceError("ZDP-001", f"--root is for directories and git, not for {spec}")
    if match := _RELEASE.fullmatch(spec):
        return read_release(match[1], match[2], cache=cache)
    if spec.endswith(".whl"):
        return read_wheel(path)
    if spec.endswith(ARCHIVES):
        return read_sdist(path)
    raise SourceError("ZDP-004", f"{spec} is not {SOURCE_KINDS}")


def narrowed_both(
    base: Source, new: Source, only: Sequence[str]
) -> tuple[Source, Source, list[str]]:
    """Both sides with what `only` names, and the other files that differ.

    Where it names data files, the modules of their packages are on both sides as they were: which
    of these read the files is looked for there.
    """
    ends = narrowed(base, only), narrowed(new, only)
    named = {name.strip("/") for name in only if not name.endswith(".py")}
    data = named & {*ends[0].files, *ends[1].files}
    tops = {path.partition("/")[0] for path in data}
    beside = {
        path: text
        for path, text in base.files.items()
        if path.endswith(".py") and path.partition("/")[0] in tops
    }
    old, fresh = (Source(end.origin, {**beside, **end.files}) for end in ends)
    paths = sorted({*base.files, *new.files} - {*ends[0].files, *ends[1].files})
    return old, fresh, [p for p in paths if base.files.get(p) != new.files.get(p)]


def narrowed(source: Source, only: Sequence[str]) -> Source:
    """Only the packages, modules or paths that `only` names; all of it when empty."""
    if not only:
        return source
    wanted = [name.strip("/") for name in only]
    wanted += [name.replace(".", "/") for name in wanted if "/" not in name]
    files = {
        path: data
        for path, data in source.files.items()
        if any(path in {name, f"{name}.py"} or path.startswith(f"{name}/") for name in wanted)
    }
    return Source(source.origin, files)
