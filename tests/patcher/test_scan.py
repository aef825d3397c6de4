from __future__ import annotations

import gc

from zdpatch.patcher import scan
from zdpatch.patcher.scan import Looks, counted


class Kind(type):
    """A metaclass that answers nothing."""

    def __hash__(cls) -> int:
        raise AssertionError

    def __eq__(cls, other: object) -> bool:
        raise AssertionError


class Thing(metaclass=Kind):
    pass


class Other(Thing):
    pass


def test_objects_of_exactly_these_types_are_found_and_their_types_asked_nothing() -> None:
    things = [Thing(), Other(), Thing()]
    found = list(scan.of({id(Thing)}))
    assert sorted(map(id, found)) == sorted((id(things[0]), id(things[2])))
    every = [each for each in scan.objects() if id(type(each)) in {id(Thing), id(Other)}]
    assert sorted(map(id, every)) == sorted(map(id, things))


def test_nothing_is_left_out() -> None:
    kept: list[list[object]] = [[] for _ in range(25_000)]
    seen = set(map(id, scan.objects()))
    assert {id(each) for each in gc.get_objects(generation=2)} <= seen
    assert {id(each) for each in kept} <= seen


def test_looks_are_counted_within_a_block_the_inner_one_alone() -> None:
    outer, inner = Looks(), Looks()
    with counted(outer):
        scan.listed()
        with counted(inner):
            list(scan.of(()))
            scan.listed()
        scan.listed()
    scan.listed()
    assert (outer.number, inner.number) == (2, 2)
    assert outer.objects > 1_000
    assert outer.longest_ms > 0
