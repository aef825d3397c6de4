"""A git revision is read out of the object store; work tree, index and hooks are never touched."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from zdpatch.cli.import_root import Budget, Source, SourceError, is_left_out
from zdpatch.cli.layouts import ASIDE, BUILD_FILES, TOOLS

if TYPE_CHECKING:
    from collections.abc import Collection


_SUBMODULE: Final = " (submodule)"
_OUTSIDE: Final = " (link out of the tree)"
_GITLINK: Final = "160000"
_MAX_LINKS: Final = 40  # as many as Linux follows


@dataclass(frozen=True, slots=True)
class _Entry:
    mode: str
    oid: str
    size: int


def read_git(revision: str, *, root: str | None, repository: Path) -> Source:
    """Read a revision of the repository around `repository`, without touching its work tree.

    Without `root` the import root is `src` if that holds Python, else the packages and modules at
    the top of the tree, without tests, docs and the files of the build (`root="."` takes all).
    Submodules, and links that leave the tree, count as data: what they hold is not known here.
    """
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    found = _git(repository, *verify, revision).decode("ascii").strip()
    sha = _git(repository, *verify, f"{found}^{{commit}}").decode("ascii").strip()
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
    modules = {path: entry for path, entry in inside.items() if entry.mode == _GITLINK}
    blobs = _blobs(repository, sorted({e.oid for p, e in inside.items() if p not in modules}))
    blobs |= {entry.oid: entry.oid.encode("ascii") for entry in modules.values()}
    return Source(f"git:{sha}", {path: blobs[inside[path].oid] for path in sorted(inside)})


def _root_of(entries: dict[str, _Entry]) -> str:
    in_src = any(path.startswith("src/") and path.endswith(".py") for path in entries)
    return "src" if in_src else "."


def _is_product(path: str, entries: Collection[str]) -> bool:
    """Whether a path of a flat layout is part of what gets imported by the application.

    A folder without `__init__.py` that holds Python is a namespace package (PEP 420).
    """
    top, below, _ = path.partition("/")
    if not below:
        odd = path.endswith((_SUBMODULE, _OUTSIDE))
        return odd or (path.endswith(".py") and path not in BUILD_FILES)
    if top in ASIDE:
        return False
    if f"{top}/__init__.py" in entries:
        return True
    holds = any(each.startswith(f"{top}/") and each.endswith(".py") for each in entries)
    return holds and top.isidentifier() and top not in TOOLS


def _tree(repository: Path, sha: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for row in _git(repository, "ls-tree", "-r", "-z", "-l", "--full-tree", sha).split(b"\0"):
        if not row:
            continue
        facts, _, path = row.partition(b"\t")
        mode, kind, oid, size = facts.decode("ascii").split()
        if kind == "blob":
            entries[os.fsdecode(path)] = _Entry(mode, oid, int(size))
        elif kind == "commit":
            entries[os.fsdecode(path) + _SUBMODULE] = _Entry(mode, oid, 0)
    return entries


def _resolve_links(repository: Path, entries: dict[str, _Entry]) -> dict[str, _Entry]:
    """Links replaced by what they name inside the tree, through other links too.

    One that leads out of it, or nowhere, stays as an entry of its own, under a name that says so.
    """
    links = {path: entry for path, entry in entries.items() if entry.mode == "120000"}
    resolved = {path: entry for path, entry in entries.items() if path not in links}
    texts = _blobs(repository, sorted({entry.oid for entry in links.values()}))
    targets = {
        path: os.path.normpath(PurePosixPath(path).parent / os.fsdecode(texts[entry.oid]))
        for path, entry in links.items()
    }
    pending = dict(targets)
    for _ in range(_MAX_LINKS):
        # a target that holds a link itself waits until that one is resolved
        ready = [path for path, target in pending.items() if not _waits(target, pending)]
        for path in ready:
            target = pending.pop(path)
            inside = {
                p: e for p, e in resolved.items() if p == target or p.startswith(f"{target}/")
            }
            resolved |= {path + p.removeprefix(target): e for p, e in inside.items()}
            if not inside:
                resolved[path + _OUTSIDE] = links[path]
        if not ready:
            break
    return resolved | {path + _OUTSIDE: links[path] for path in pending}


def _waits(target: str, pending: Collection[str]) -> bool:
    return any(
        path == target or path.startswith(f"{target}/") or target.startswith(f"{path}/")
        for path in pending
    )


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
