"""Sources are given out within bounds, and offered ones are taken from few."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent import protocol
from zdpatch.agent.audit import Actor
from zdpatch.agent.sources import source
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.running import Running

if TYPE_CHECKING:
    from tests.agent.conftest import Desk

ME = Actor(os.geteuid(), "me", 1)
OTHER = Actor(os.geteuid() + 4711, "other", 2)


@pytest.fixture
def desk(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A process that runs 100 bytes of source as every module."""

    def running(name: str, offered: bytes | None = None, since: float = 0.0) -> Running:
        del since
        return Running(name, "verified", loaded=True, source=offered or b"#" * 100)

    monkeypatch.setattr(desk.here.engine, "running", running)
    return desk


def test_only_what_is_not_there(desk: Desk) -> None:
    """A source that the asker has is not sent."""
    had = hashlib.sha256(b"#" * 100).hexdigest()
    asked = protocol.Source({"a": had, "b": ""})
    rows = source(desk.here, asked, OTHER, None).modules
    assert [(row.state, row.source) for row in rows] == [
        ("verified", None),
        ("verified", b"#" * 100),
    ]
    assert {row.digest for row in rows} == {had}


def test_what_does_not_fit_comes_later(desk: Desk) -> None:
    """An answer is bounded, and always has one source more than the last."""
    desk.here.settings = replace(desk.here.settings, source_bytes=150)
    rows = source(desk.here, protocol.Source({"a": "", "b": "", "c": ""}), ME, None).modules
    assert [row.state for row in rows] == ["verified", "later", "later"]
    desk.here.settings = replace(desk.here.settings, source_bytes=1)
    assert source(desk.here, protocol.Source({"a": ""}), ME, None).modules[0].source


def test_work_is_bounded(desk: Desk) -> None:
    """An answer takes no longer than its time: others wait for theirs."""
    desk.here.settings = replace(desk.here.settings, source_s=0.0)
    rows = source(desk.here, protocol.Source({"a": "", "b": ""}), ME, None).modules
    assert [row.state for row in rows] == ["verified", "later"]


def test_who_may_offer(desk: Desk) -> None:
    """A source is compiled here for root and the process's own user alone, one at a time."""
    one = protocol.Source({"a": ""})
    assert source(desk.here, one, ME, b"x = 1\n").modules[0].state == "verified"
    with pytest.raises(OperatorError) as caught:
        source(desk.here, one, OTHER, b"x = 1\n")
    assert caught.value.code == "ZDP-403"
    with pytest.raises(OperatorError) as caught:
        source(desk.here, protocol.Source({"a": "", "b": ""}), ME, b"x = 1\n")
    assert caught.value.code == "ZDP-404"


def test_what_else_is_loaded(desk: Desk) -> None:
    """Modules of the packages below which one asks, but for those asked for."""
    asked = protocol.Source({"json.decoder": ""}, ["json"])
    others = source(desk.here, asked, ME, None).others
    assert "json.decoder" not in others
    assert all(name.startswith("json.") for name in others)
