"""A process is asked for what its application wrote down; where none answers, its journal is read.

A service that is down, or runs with ZDPATCH=off, is exactly the one whose history is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from zdpatch.agent.home import JOURNAL
from zdpatch.agent.protocol import HistoryResult
from zdpatch.agent.readonly import read_history
from zdpatch.cli.absent import kept
from zdpatch.cli.actions import no_agents
from zdpatch.cli.client import Answer, Client
from zdpatch.cli.select import chosen, discover, parse_selector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from zdpatch.agent.protocol import History
    from zdpatch.cli.output import Output

_SILENT: Final = "ZDP-402"


@dataclass(frozen=True, slots=True)
class Book:
    """What one application wrote down. `journal` is the file, when no process told it."""

    app: str
    result: HistoryResult
    journal: Path | None = None


def read_books(output: Output, selector: str, header: History, timeout_s: float) -> list[Book]:
    """The book of each application that is meant. Raises ZDP-401 when there is none.

    An application's error is raised when its processes refuse, or neither they nor its journal
    can be read.
    """
    selected = parse_selector(selector)
    everyone = discover(output.home)
    agents = chosen(everyone, selected)
    found = kept(output.home)
    with Client(timeout_s=timeout_s) as client:
        answers = client.ask(agents, header, HistoryResult)
    by_app: dict[str, list[Answer[HistoryResult]]] = {
        app: [] for app in found if selected.means_app(app)
    }
    for answer in answers:
        by_app.setdefault(answer.ref.app, []).append(answer)
    if not by_app:
        raise no_agents(output, selector, everyone)
    return [_book(app, heard, found.get(app), header) for app, heard in sorted(by_app.items())]


def _book(
    app: str, heard: Sequence[Answer[HistoryResult]], directory: Path | None, header: History
) -> Book:
    for answer in heard:
        if answer.result is not None:
            return Book(app, answer.result)
    spoken = [one for one in heard if one.error is not None and one.error.code != _SILENT]
    if spoken or directory is None:
        return Book(app, (spoken or heard)[0].need())
    return Book(app, read_history(directory, header), directory / JOURNAL)
