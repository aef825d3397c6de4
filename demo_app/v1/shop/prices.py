"""Money is whole cents, and a half cent is rounded up, once, at the end of a sum."""

from __future__ import annotations


def half_up(amount: int, divisor: int) -> int:
    """`amount / divisor` for amounts from zero up, rounded to a whole cent."""
    return (2 * amount + divisor) // (2 * divisor)


def with_vat(net: int, vat: int) -> int:
    """The price to pay for `net` cents at `vat` percent."""
    return half_up(net * (100 + vat), 100)


def less(amount: int, percent: int) -> int:
    """`amount` after a discount."""
    return half_up(amount * (100 - percent), 100)
