"""A cart lives as long as its session, in the memory of one worker."""

from __future__ import annotations

from . import prices
from .catalogue import STOCK


class Cart:
    """What somebody is about to buy. `voucher` is a discount in percent on the whole cart."""

    __slots__ = ("pieces", "voucher")

    def __init__(self) -> None:
        self.pieces: dict[str, int] = {}
        self.voucher = 0

    def add(self, code: str, pieces: int = 1) -> None:
        """Put pieces of one product into the cart."""
        self.pieces[code] = self.pieces.get(code, 0) + pieces

    def total(self) -> int:
        """What is to be paid, in cents, with VAT."""
        net: dict[int, int] = {}
        for code, pieces in self.pieces.items():
            product = STOCK[code]
            price = prices.less(product.net * pieces, self.voucher)
            net[product.vat] = net.get(product.vat, 0) + price
        return sum(prices.with_vat(cents, vat) for vat, cents in net.items())


class Sessions:
    """The carts of one worker by session id; the least recently used go when there are too many."""

    LIMIT = 10_000

    def __init__(self) -> None:
        self._carts: dict[str, Cart] = {}

    def cart(self, session: str) -> Cart:
        """The cart of this session, a new one at its first request."""
        cart = self._carts.pop(session, None) or Cart()
        self._carts[session] = cart
        while len(self._carts) > self.LIMIT:
            self._carts.pop(next(iter(self._carts)))
        return cart

    def __len__(self) -> int:
        return len(self._carts)
