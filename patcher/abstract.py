"""What is still abstract in a class follows its methods.

`abc.ABCMeta` computes `__abstractmethods__` once, when it makes a class (CPython `Modules/_abc.c`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from zdpatch.patcher import reach
from zdpatch.patcher.swap import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_mro = cast("Callable[[type], tuple[type, ...]]", type.__dict__["__mro__"].__get__)


def implemented(cls: type, names: Iterable[str], path: str) -> Iterator[Step]:
    """Steps after which concrete methods `names`, new in `cls`, are abstract no more, there and in
    the classes derived from it.
    """
    for each in reach.family(cls):
        old = reach.class_dict(each).get("__abstractmethods__")
        if type(old) is frozenset:
            abstract = cast("frozenset[str]", old)
            gone = {n for n in abstract.intersection(names) if _provider(each, n, cls) is cls}
            if gone:
                what = f"{path}: __abstractmethods__ of {reach.qualname(each)}"
                yield Step("class", each, "__abstractmethods__", abstract - gone, abstract, what)


def _provider(cls: type, name: str, new: type) -> type | None:
    return next((c for c in _mro(cls) if c is new or name in reach.class_dict(c)), None)
