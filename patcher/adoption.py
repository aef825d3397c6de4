"""What somebody replaced at run time stays theirs: left alone or put back, as the operator says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Adoption:
    """Paths ("shop.cart:price") at which something else than the base is bound.

    `adopt`: it is left alone. `replace`: what the base had there is put back, and then patched.
    """

    adopt: frozenset[str] = frozenset()
    replace: frozenset[str] = frozenset()

    @property
    def paths(self) -> frozenset[str]:
        return self.adopt | self.replace


NOTHING: Final = Adoption()
