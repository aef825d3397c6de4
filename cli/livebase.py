"""The base of a patch is taken from processes where they say that it explains what they run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.agent.protocol import Source as Question
from zdpatch.agent.sources import SourceResult, SourceRow
from zdpatch.cli.client import Client, label
from zdpatch.cli.import_root import Source, SourceError
from zdpatch.cli.output import clean, count
from zdpatch.cli.select import chosen, discover, parse_selector
from zdpatch.patcher.errors import OperatorError, Refused, Verdict
from zdpatch.patcher.tree import tree_from_files

if TYPE_CHECKING:
    from pathlib import Path

    from zdpatch.agent.home import AgentFile

PREFIX: Final = "agent:"
_AT_ONCE: Final = 200  # modules of one request
_MAX_ORIGIN: Final = 200


@dataclass(slots=True)
class LiveBase:
    """What was found out: the source, and what to tell about it."""

    source: Source
    told: list[str] = field(default_factory=list[str])


def read_agents(
    spec: str, new: Source, *, home: Path, spare: Source | None, whole: bool
) -> LiveBase:
    """The base of the modules of `new`, from the agents that `spec` ("agent:SELECTOR") names.

    `spare` is a source for data files, and for modules of which the processes have none; they
    compare it too. `whole`: `new` is all there is of its packages. Raises ZDP-401, ZDP-402, ZDP-004
    and Refused ZDP-201.
    """
    refs = chosen(discover(home), parse_selector(spec.removeprefix(PREFIX)))
    if not refs:
        raise OperatorError("ZDP-401", f"no agent in {home} is {spec.removeprefix(PREFIX)!r}")
    with Client() as client:
        found = [_Asked(client, ref, new, spare) for ref in refs]
        for each in found:
            each.ask(whole=whole)
    first = found[0]
    for each in found[1:]:
        _same(first, each)
    told = [f"base      {clean(_named(ref))}" for ref in refs]
    told += first.told()
    return LiveBase(Source(_origin(refs), first.files()), told)


class _Asked:
    """What one agent says of each module of the new source."""

    def __init__(self, client: Client, ref: AgentFile, new: Source, spare: Source | None) -> None:
        self.client = client
        self.ref = ref
        self.new = new
        self.tree = tree_from_files(new.files)
        given = tree_from_files({} if spare is None else spare.files)
        self.spare = given.modules
        self.data = self.tree.data if spare is None else given.data
        self.rows: dict[str, SourceRow] = {}
        self.sources: dict[str, bytes] = {}
        self.from_spare: list[str] = []
        self.others: list[str] = []

    def ask(self, *, whole: bool) -> None:
        """Ask until there is an answer for every module. Raises what stands against this base."""
        had = {name: _sha256(each.source) for name, each in self.tree.modules.items()}
        tops = sorted({name.partition(".")[0] for name in had})
        below = tops[:50] if whole and len(had) <= _AT_ONCE else []
        waiting = sorted(had)
        while waiting:
            now = {name: had[name] for name in waiting[:_AT_ONCE]}
            result = self._request(Question(now, below))
            answered = [row for row in result.modules if row.name in now and row.state != "later"]
            if not answered:
                raise OperatorError(
                    "ZDP-404", f"{label(self.ref)} does not answer for {waiting[0]}"
                )
            self.others = result.others
            for row in answered:
                self._take(row, self.tree.modules[row.name].source)
            waiting = [name for name in waiting if name not in self.rows]
        self._try_spare()
        self._check()

    def _request(self, question: Question, blob: bytes | None = None) -> SourceResult:
        (answer,) = self.client.ask([self.ref], question, SourceResult, blob)
        return answer.need()

    def _take(self, row: SourceRow, had: bytes) -> None:
        """Keep a row. The digest says which source it is about."""
        self.rows[row.name] = row
        if row.state != "verified":
            return
        source = had if row.source is None else row.source
        if _sha256(source) != row.digest:
            raise OperatorError("ZDP-404", f"{label(self.ref)} sent another source of {row.name}")
        self.sources[row.name] = source

    def _try_spare(self) -> None:
        for name, row in list(self.rows.items()):
            if row.state in ("drifted", "no source") and name in self.spare:
                source = self.spare[name].source
                result = self._request(Question({name: _sha256(source)}), source)
                for again in result.modules:
                    if again.name == name and again.state != "no source":
                        self._take(again, source)
                        self.from_spare.append(name)

    def _check(self) -> None:
        drifted = [row for row in self.rows.values() if row.state == "drifted"]
        if drifted:
            verdicts = tuple(_verdict(row) for row in drifted)
            what = "none of the sources that can be found explains what it runs"
            raise Refused(
                "ZDP-201",
                f"{label(self.ref)}: {what}: {verdicts[0].path}: {verdicts[0].reason}",
                verdicts,
                next="zdpatch build ... --base-source DIR   with the release that it runs",
            )
        compiled = [row.name for row in self.rows.values() if row.state == "no source"]
        if compiled:
            raise SourceError(
                "ZDP-004",
                f"{label(self.ref)} has no source of {', '.join(compiled[:5])}, only compiled code",
                next="zdpatch build ... --base-source DIR   with what it was compiled from",
            )

    def files(self) -> dict[str, bytes]:
        """The base as files: modules from the process; data as in the spare source, if there is
        one, else as in the new.
        """
        files = dict(self.data)
        for name, source in self.sources.items():
            path = name.replace(".", "/")
            files[f"{path}/__init__.py" if self.rows[name].package else f"{path}.py"] = source
        return files

    def told(self) -> list[str]:
        """What a person should know of how the base was found."""
        loaded = [row for row in self.rows.values() if row.loaded]
        verified = count(len(loaded), "module")
        lines = [f"          {verified} compared with what runs, {len(self.rows)} asked for"]
        if self.from_spare:
            lines.append(f"          from --base-source: {clean(', '.join(self.from_spare))}")
        if self.others:
            names = ", ".join(self.others[:5]) + (", ..." if len(self.others) > 5 else "")
            lines.append(f"          loaded, and not in the new source, left alone: {clean(names)}")
        if self.data is not self.tree.data:
            lines.append(
                "          data files are those of --base-source; each process compares them"
            )
        elif self.data:
            lines.append("          data files are taken to be the new ones; see --base-source")
        return lines


def _same(one: _Asked, other: _Asked) -> None:
    """Several processes must run the same base. Raises ZDP-004."""
    for name, row in one.rows.items():
        if (row.state, row.digest) != (other.rows[name].state, other.rows[name].digest):
            raise SourceError(
                "ZDP-004",
                f"{label(one.ref)} and {label(other.ref)} run different sources of {name}",
                next=f"zdpatch build --from agent:pid={one.ref.pid} ...",
            )


def _verdict(row: SourceRow) -> Verdict:
    remedy = "give the release that the process was started from"
    return Verdict(row.path or f"{row.name}:", row.line, "drift", "X", row.what, remedy)


def _sha256(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _named(ref: AgentFile) -> str:
    return f"{ref.app} {ref.release} pid {ref.pid} on {ref.host}"


def _origin(refs: list[AgentFile]) -> str:
    more = f" and {len(refs) - 1} more" if len(refs) > 1 else ""
    return f"{PREFIX}{_named(refs[0])}"[: _MAX_ORIGIN - len(more)] + more
