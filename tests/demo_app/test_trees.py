"""The shop's versions differ in what the tour says about them, and in nothing else."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo_app"

PRICES = """
import sys
from shop.cart import Cart
from shop.catalogue import STOCK
from shop.offers import price

cart = Cart()
cart.add("lamp", 2)
cart.voucher = 10
print(cart.total(), price(STOCK["lamp"], 10))
"""


def prices(tree: str) -> str:
    """What one version of the shop asks for two lamps with a voucher, and for a lamp on offer."""
    done = subprocess.run(
        [sys.executable, "-c", PRICES], cwd=DEMO / tree, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def changed(old: str, new: str) -> list[str]:
    """The files in which two trees differ."""
    sides = [
        {
            str(path.relative_to(DEMO / tree)): path.read_bytes()
            for path in (DEMO / tree).rglob("shop/*.*")
            if path.is_file()
        }
        for tree in (old, new)
    ]
    return sorted(name for name in sides[0] | sides[1] if sides[0].get(name) != sides[1].get(name))


@pytest.mark.parametrize(
    ("tree", "asked"),
    [
        ("v1", "7709 4282"),  # the voucher is taken off twice, the offer's last cent is cut off
        ("v2", "8566 4283"),  # 2 x 39.99 less 10 % is 71.98; with 19 % VAT 85.66
        ("unsafe", "8566 4283"),
    ],
)
def test_prices(tree: str, asked: str) -> None:
    """The first version has both bugs, the second has none."""
    assert prices(tree) == asked


def test_the_fix_is_two_files() -> None:
    """The own fix changes the cart and the offers alone."""
    assert changed("v1", "v2") == ["shop/cart.py", "shop/offers.py"]


def test_the_unsafe_patch_adds_slots() -> None:
    """The unsafe version differs from the fixed one by `__slots__` alone."""
    assert changed("v2", "unsafe") == ["shop/cart.py"]
    fixed, unsafe = (
        (DEMO / tree / "shop/cart.py").read_text(encoding="utf-8").splitlines()
        for tree in ("v2", "unsafe")
    )
    assert [line.strip() for line in unsafe if line not in fixed] == [
        '__slots__ = ("pieces", "voucher")'
    ]


def test_the_release_with_the_hole_is_installed() -> None:
    """The tour patches a real hole: the version that has it must be the installed one."""
    assert importlib.metadata.version("jinja2") == "3.1.5"
