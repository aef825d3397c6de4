"""For whom a request is made is asked of the application's own function, which may be wrong.

A request never fails for its key.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


class Keyed(Generic[R]):
    """`key` gets what the framework calls a request, and gives a user, a tenant, a job; or None."""

    def __init__(self, key: Callable[[R], object] | None) -> None:
        self._key = key
        self._told = False

    def of(self, request: R) -> str | None:
        """The key as a string; None without one, or when the function fails: told once."""
        if self._key is None:
            return None
        try:
            key = self._key(request)
        except Exception as error:  # noqa: BLE001 - it is the application's
            if not self._told:
                self._told = True
                what = f"{type(error).__name__}: {error}"
                log = logging.getLogger("zdpatch")
                log.warning("requests have no key: %r raised %s", self._key, what)
            return None
        return None if key is None else str(key)
