"""One background thread makes the table of offers; requests only read the last finished one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from . import prices
from .catalogue import STOCK

if TYPE_CHECKING:
    from .catalogue import Product


def price(product: Product, percent: int) -> int:
    """The offer's price in cents, with VAT."""
    return prices.with_vat(prices.less(product.net, percent), product.vat)


class Offers:
    """The offers of one worker. `rounds` counts the tables made since it started."""

    PERCENT = 10

    def __init__(self, every_s: float = 0.1) -> None:
        self.rounds = 0
        self.table: dict[str, int] = {}
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="offers", daemon=True)

    def start(self) -> None:
        """Make the first table, then keep making them in the background."""
        self.renew()
        self._thread.start()

    def stop(self) -> None:
        """End the background thread."""
        self._stop.set()
        self._thread.join()

    def renew(self) -> None:
        """Make a new table and show it at once, whole."""
        self.table = {code: price(product, self.PERCENT) for code, product in STOCK.items()}
        self.rounds += 1

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self.renew()
