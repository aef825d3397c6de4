"""What varies between two builds of the same sources is explicit: clock, sequence and origin.

`seq` rises per application and is kept in the home: agents refuse what is older than they have.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.cli.bundlefile import write_atomically
from zdpatch.cli.errors import usage
from zdpatch.cli.home import private_directory
from zdpatch.cli.options import parse_duration
from zdpatch.patcher.bundle import LIMITS
from zdpatch.patcher.errors import AuthorError, OperatorError
from zdpatch.patcher.manifest import MAX_ENTRIES, Provenance

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from zdpatch.patcher.source import Patch

_GITHUB: Final = {
    "repo": "GITHUB_REPOSITORY",
    "commit": "GITHUB_SHA",
    "ci_run": "GITHUB_RUN_ID",
    "workflow": "GITHUB_WORKFLOW",
}
_GITLAB: Final = {
    "repo": "CI_PROJECT_PATH",
    "commit": "CI_COMMIT_SHA",
    "ci_run": "CI_PIPELINE_ID",
    "workflow": "CI_JOB_NAME",
}
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_RELEASE: Final = re.compile(r"([A-Za-z0-9._-]+)==(.+)")
MAX_ID: Final = 40


def build_time(env: Mapping[str, str]) -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, else the clock. Raises ZDP-002."""
    given = env.get("SOURCE_DATE_EPOCH")
    if given is None:
        return int(time.time())
    if not re.fullmatch(r"\d{1,12}", given):
        raise OperatorError("ZDP-002", f"SOURCE_DATE_EPOCH is not a number: {given!r}")
    return int(given)


def last_second(text: str, created: int) -> int:
    """When a bundle is accepted no more: "30d" after `created`, or the end of a date (UTC)."""
    if (seconds := parse_duration(text)) is not None and seconds >= 1:
        return created + int(seconds)
    if _DATE.fullmatch(text):
        try:
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            raise usage(f"--not-after {text}: there is no such day") from None
        return int((day + timedelta(days=1)).timestamp()) - 1
    raise usage(f"--not-after {text}: neither a time like 30d nor a date like 2027-01-31")


def take_seq(home: Path, app: str, given: int | None) -> int:
    """The number of this build: `given`, else one more than the last for `app`; remembered."""
    if _of_another(home):
        if given is not None:
            return given
        raise OperatorError(
            "ZDP-002",
            f"{home} is another user's, and so is the counter of builds in it",
            next="the same command with --seq N, one more than `zdpatch status --detail` shows",
        )
    private_directory(home)
    path = home / "builder.json"
    with _locked(home / "builder.lock"):
        state = _read(path)
        last = int(state.get(app, 0))
        seq = last + 1 if given is None else given
        if seq > last:
            state[app] = seq
            text = json.dumps({"version": 1, "seq": state}, indent=2, sort_keys=True)
            write_atomically(path, text.encode() + b"\n", 0o600)
            _give(path, home)
    return seq


def _give(path: Path, home: Path) -> None:
    """What root writes into a service's home is the service's, which builds there later."""
    if os.geteuid() == 0:
        os.chown(path, home.stat().st_uid, -1, follow_symlinks=False)


def _of_another(home: Path) -> bool:
    """Whether this user, an operator of its group, cannot write in the home of a service."""
    if not home.exists() or os.access(home, os.W_OK):
        return False
    return home.stat().st_uid != os.geteuid()


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = cast("dict[str, Any]", json.loads(path.read_bytes()))
        seq = cast("dict[str, Any]", raw["seq"])
        return {str(app): int(number) for app, number in seq.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        # Starting again at 1 would make bundles which every agent refuses as old.
        raise OperatorError(
            "ZDP-002", f"{path} cannot be read: {error}", next="mend it, or give --seq"
        ) from error


@contextmanager
def _locked(path: Path) -> Generator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError("ZDP-002", f"{path} cannot be used: {error.strerror}") from error
    _give(path, path.parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def provenance(env: Mapping[str, str], given: Mapping[str, str]) -> Provenance:
    """Where it is built: what the CI says, overridden by what was given. Raises ZDP-001."""
    facts: dict[str, str] = {}
    if env.get("GITHUB_ACTIONS"):
        facts = {"builder": "github-actions", **_from(env, _GITHUB)}
    elif env.get("GITLAB_CI"):
        facts = {"builder": "gitlab-ci", **_from(env, _GITLAB)}
    facts.update(given)
    odd = sorted(set(facts) - set(Provenance.__struct_fields__))
    if odd:
        known = ", ".join(Provenance.__struct_fields__)
        raise usage(f"--provenance {odd[0]}=...: known are {known}")
    return Provenance(**facts)


def _from(env: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {field: env[name] for field, name in names.items() if env.get(name)}


def default_id(app: str, base: str, new: str, content: str) -> str:
    """An id that says what it is: `JINJA2-3-1-5-TO-3-1-6`, else the app and 8 digits of `content`.

    `base` and `new` are origins, `content` a digest of the change. At most 40 characters.
    """
    old, fresh = _RELEASE.fullmatch(base), _RELEASE.fullmatch(new)
    if old and fresh and old[1].lower() == fresh[1].lower():
        full = _id_text(f"{old[1]}-{old[2]}-to-{fresh[2]}")
        if len(full) <= MAX_ID:
            return full
    tail = content[:8].upper()
    return f"{_id_text(app)[: MAX_ID - 9]}-{tail}"


def check_limits(patch: Patch, blobs: Mapping[str, bytes]) -> None:
    """Raises AuthorError ZDP-101 for a patch that no bundle can hold."""
    for what, number in (("modules", len(patch.changes)), ("data files", len(patch.data))):
        if number > MAX_ENTRIES:
            raise _too_large(f"{number} {what} change, and a bundle takes {MAX_ENTRIES} of them")
    if len(blobs) > LIMITS.blobs:
        raise _too_large(f"{len(blobs)} contents differ, and a bundle takes {LIMITS.blobs} of them")
    size = sum(map(len, blobs.values()))
    if size > LIMITS.bundle:
        sizes = [(len(e.base or b"") + len(e.new or b""), e.path) for e in patch.changes]
        sizes += [(len(e.base or b"") + len(e.new or b""), e.path) for e in patch.data]
        raise _too_large(
            f"what changes has {size:,} bytes on both sides, most of all {max(sizes)[1]}, and a"
            f" bundle has at most {LIMITS.bundle:,}"
        )


def _too_large(cause: str) -> AuthorError:
    follow = "zdpatch build ... --only PACKAGE, or deploy large files with a release"
    return AuthorError("ZDP-101", cause, next=follow)


def _id_text(text: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "-", text.upper()).strip("-")
