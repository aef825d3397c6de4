"""What people see. Greeting cards are templates by customers, so they render in a sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from .catalogue import STOCK, SUPPLIER

if TYPE_CHECKING:
    from .cart import Cart

_pages = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
_cards = SandboxedEnvironment(autoescape=True)


def cents(amount: int) -> str:
    """`123456` as people write it: `1,234.56`."""
    return f"{amount // 100:,}.{amount % 100:02}"


_pages.filters["cents"] = cents


def front(cart: Cart, offers: dict[str, int]) -> str:
    """The front page, with this customer's cart."""
    page = _pages.get_template("front.html")
    return page.render(stock=STOCK.values(), offers=offers, cart=cart)


def card(text: str, name: str) -> str:
    """A customer's greeting card; a text that is not allowed says why instead."""
    try:
        return _cards.from_string(text).render(name=name, supplier=SUPPLIER)
    except TemplateError as error:
        return f"not possible: {error}"
