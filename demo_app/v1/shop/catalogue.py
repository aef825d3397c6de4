"""What the shop sells; nothing here changes while it runs. Prices are net, in cents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Product:
    """One article. `net` in cents; `vat` in percent."""

    code: str
    title: str
    net: int
    vat: int


class Supplier:
    """Who delivers to the shop. What is paid for a piece is nobody else's business."""

    def __init__(self, name: str, cost: int) -> None:
        self.name = name
        self._cost = cost

    def margin(self, product: Product) -> int:
        """What is earned with one piece, in cents."""
        return product.net - self._cost


STOCK: Final = {
    product.code: product
    for product in (
        Product("lamp", "Desk lamp", 3999, 19),
        Product("desk", "Oak desk", 41999, 19),
        Product("chair", "Swivel chair", 15550, 19),
        Product("book", "The Art of Sitting", 2435, 7),
        Product("tea", "Green tea, 250 g", 689, 7),
    )
}
SUPPLIER: Final = Supplier("Nordwald", cost=1870)
