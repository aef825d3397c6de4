from __future__ import annotations

import ast
import gc
import weakref
from collections.abc import Callable
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


Change = Callable[[int], int]
CHANGES: dict[str, tuple[Change, int]] = {
    "twice": (lambda mine: mine * 2, 20),
    "half": (lambda mine: mine // 2, 5),
    "more": (lambda mine: mine + 5, 15),
    "less": (lambda mine: mine - 20, 0),
    "large": (lambda mine: 100_000_000, 100_000_000),
    "none": (lambda mine: 0, 0),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_program_computes_from_ours_means_what_it_would_have(name: str) -> None:
    change, meant = CHANGES[name]
    with no_full_collection():
        young, middle, full = gc.get_threshold()
        gc.set_threshold(young * 2, middle, change(full))
    assert gc.get_threshold() == (1400, 10, meant)
    gc.set_threshold(700, 10, 10)
    with no_full_collection():
        young, middle, full = gc.get_threshold()
        gc.set_threshold(young, change(middle), full)
    assert gc.get_threshold() == (700, meant, 10)


def test_what_the_program_sets_before_a_block_inside_stays() -> None:
    with no_full_collection():
        gc.set_threshold(50_000, 20, gc.get_threshold()[2] * 2)
        with no_full_collection():
            assert min(gc.get_threshold()[1:]) > 1_000
    assert gc.get_threshold() == (50_000, 20, 20)


def test_what_the_program_puts_back_afterwards_is_its_own_again() -> None:
    with no_full_collection():
        kept = gc.get_threshold()
        gc.set_threshold(50_000, 20, 100)
        assert not collecting.left_behind()
    assert gc.get_threshold() == (50_000, 20, 100)
    gc.set_threshold(*kept)
    assert collecting.left_behind()
    collecting.put_back()
    assert gc.get_threshold() == (700, 10, 10)
    assert not collecting.left_behind()


def test_the_next_block_does_not_take_ours_for_the_programs() -> None:
    with no_full_collection():
        kept = gc.get_threshold()
    gc.set_threshold(*kept)
    with no_full_collection():
        pass
    assert gc.get_threshold() == (700, 10, 10)


def test_larger_thresholds_are_left_alone() -> None:
    gc.set_threshold(700, 2**30, 2**31 - 1)
    with no_full_collection():
        assert gc.get_threshold() == (700, 2**30, 2**31 - 1)
    assert gc.get_threshold() == (700, 2**30, 2**31 - 1)


def test_a_forked_child_has_the_thresholds_of_before() -> None:
    with no_full_collection():
        collecting.after_fork()
        assert gc.get_threshold() == (700, 10, 10)
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
