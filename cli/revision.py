"""A git revision is read out of the object store; work tree, index and hooks are never touched."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from zdpatch.cli.import_root import Budget, Source, SourceError, is_left_out
from zdpatch.cli.layouts import ASIDE, BUILD_FILES

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    oid: str
    size: int


def read_git(revision: str, *, root: str | None, repository: Path) -> Source:
    """Read a revision of the repository around `repository`, without touching its work tree.

    Without `root` the import root is `src` if that holds Python, else the packages and modules at
    the top of the tree, without tests, docs and the files of the build (`root="."` takes all).
    """
    commit = _git(
        repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"
    )
    sha = commit.decode("ascii").strip()
    entries = _tree(repository, sha)
    wanted = _resolve_links(repository, entries)
    found = PurePosixPath(root or _root_of(entries)).as_posix().strip("/")
    if root is None and found == ".":
        wanted = {path: entry for path, entry in wanted.items() if _is_product(path, wanted)}
    prefix = "" if found in {"", "."} else f"{found}/"
    inside = {
        path.removeprefix(prefix): entry
        for path, entry in wanted.items()
        if path.startswith(prefix) and not is_left_out(path.removeprefix(prefix))
    }
    if not inside:
        raise SourceError("ZDP-004", f"git:{revision} has nothing below {found!r}")
    budget = Budget(f"git:{revision}")
    for entry in inside.values():
        budget.spend(entry.size)
    blobs = _blobs(repository, sorted({entry.oid for entry in inside.values()}))
    return Source(f"git:{sha}", {path: blobs[inside[path].oid] for path in sorted(inside)})


def _root_of(entries: dict[str, _Entry]) -> str:
    in_src = any(path.startswith("src/") and path.endswith(".py") for path in entries)
    return "src" if in_src else "."


def _is_product(path: str, entries: Collection[str]) -> bool:
    """Whether a path of a flat layout is part of what gets imported by the application."""
    top, below, _ = path.partition("/")
    if below:
        return f"{top}/__init__.py" in entries and top not in ASIDE
    return path.endswith(".py") and path not in BUILD_FILES


def _tree(repository: Path, sha: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for row in _git(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", sha).split(b"\0"):
        if not row:
            continue
        facts, _, path = row.partition(b"\t")
        mode, kind, oid, size = facts.decode("ascii").split()
        if kind == "blob":
            entries[os.fsdecode(path)] = _Entry(mode, oid, int(size))
    return entries


def _resolve_links(repository: Path, entries: dict[str, _Entry]) -> dict[str, _Entry]:
    """Links replaced by what they name inside the tree; a link out of it is dropped."""
    links = {path: entry for path, entry in entries.items() if entry.mode == "120000"}
    plain = {path: entry for path, entry in entries.items() if path not in links}
    targets = _blobs(repository, sorted({entry.oid for entry in links.values()}))
    resolved = dict(plain)
    for path, entry in links.items():
        target = os.path.normpath(PurePosixPath(path).parent / os.fsdecode(targets[entry.oid]))
        for other, what in plain.items():
            if other == target or other.startswith(f"{target}/"):
                resolved[path + other.removeprefix(target)] = what
    return resolved


def _blobs(repository: Path, oids: list[str]) -> dict[str, bytes]:
    """The contents of these objects, through one `git cat-file --batch`."""
    if not oids:
        return {}
    raw = _git(repository, "cat-file", "--batch", stdin="".join(f"{o}\n" for o in oids).encode())
    blobs: dict[str, bytes] = {}
    at = 0
    for oid in oids:
        end = raw.index(b"\n", at)
        size = int(raw[at:end].split()[2])
        blobs[oid] = raw[end + 1 : end + 1 + size]
        at = end + size + 2
    return blobs


def _git(repository: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],  # noqa: S607 - the user's own git
            input=stdin,
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except FileNotFoundError:
        raise SourceError("ZDP-004", "git is not installed") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        what = " ".join(arguments[:1])
        raise SourceError(
            "ZDP-004", f"git {what} failed in {repository}: {said or 'no such revision'}"
        )
    return done.stdout
