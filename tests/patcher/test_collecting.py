from __future__ import annotations

import ast
import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher import collecting
from zdpatch.patcher.collecting import no_full_collection, take_apart

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(autouse=True)
def thresholds() -> Generator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_only_what_is_young_is_collected_and_the_thresholds_come_back() -> None:
    with no_full_collection():
        young, middle, full = gc.get_threshold()
        assert young == 700
        assert min(middle, full) > 1_000
    assert gc.get_threshold() == (700, 10, 10)


def test_they_come_back_from_a_block_inside_and_after_an_error() -> None:
    def fails() -> None:
        with no_full_collection(), no_full_collection():
            raise LookupError

    with pytest.raises(LookupError):
        fails()
    assert gc.get_threshold() == (700, 10, 10)


def test_what_the_program_sets_meanwhile_stays() -> None:
    with no_full_collection():
        gc.set_threshold(50_000, 20, 20)
    assert gc.get_threshold() == (50_000, 20, 20)


def test_the_largest_threshold_does_not_overflow() -> None:
    gc.set_threshold(700, 10, 2**31 - 1)
    with no_full_collection():
        assert gc.get_threshold()[2] > 2**29
    assert gc.get_threshold() == (700, 10, 2**31 - 1)


def test_a_forked_child_has_the_thresholds_of_before() -> None:
    with no_full_collection():
        collecting.after_fork()
        assert gc.get_threshold() == (700, 10, 10)
        with no_full_collection():  # so that this block has something to end
            pass
        collecting._begun.append(((0, 0, 0), (0, 0, 0)))  # pyright: ignore[reportPrivateUsage]
    assert gc.get_threshold() == (700, 10, 10)


class Item:
    """Anything a plan makes."""

    def __init__(self, *inside: object) -> None:
        self.inside = inside


def test_what_only_an_object_leads_to_goes_with_its_attributes() -> None:
    mine, shared = Item(ast.parse("class C:\n    def f(self):\n        return 1")), Item(Item())
    seen = weakref.ref(mine)
    owner = SimpleNamespace(found={"a": [mine], "b": (mine, shared)}, again=mine, count=1)
    del mine
    take_apart(owner)
    assert seen() is None
    assert vars(owner) == {}
    assert type(shared.inside[0]) is Item
