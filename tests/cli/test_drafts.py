"""Functions of a script become a signed bundle, by their text; what would mean something else is
refused.
"""

from __future__ import annotations

import ast
import sys
from typing import TYPE_CHECKING

import pytest

from zdpatch.agent import local
from zdpatch.cli.bundlefile import read_bundle
from zdpatch.cli.drafts import Draft
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.grafts import graft

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

CART = '''"""The cart."""
import functools
RATE = 2

@functools.cache
def price(x, y=1):
    """Old."""
    return x


class Cart:
    items = ()

    def total(self):  # of all
        return sum(self.items)

    async def later(self):
        return 1


def last(): return 1
'''


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An import root with one package."""
    package = tmp_path / "old" / "zdshop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cart.py").write_text(CART)
    return tmp_path / "old"


def new_source(draft: Draft) -> str:
    """The new source of the one module that changes."""
    (change,) = draft.patch().changes
    assert change.new is not None
    return change.new.decode()


RATE = 7


def test_a_function_and_a_method(base: Path) -> None:
    """Their text takes the place of the definitions; decorators, order and all else stay."""
    draft = Draft("shop", str(base))

    @draft.replaces("zdshop.cart:price")
    def better(x: int, y: int = 1) -> int:
        """New.
        text
        """
        return x * RATE

    @draft.replaces("zdshop.cart:Cart.total")
    def total(self: object) -> int:
        return len(repr(self)) * RATE

    assert better(2) == 14
    found = new_source(draft)
    tree = ast.parse(found)
    price = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "price")
    assert [ast.unparse(each) for each in price.decorator_list] == ["functools.cache"]
    assert "    def total(self: object) -> int:\n        return len(repr(self)) * RATE\n" in found
    assert "    async def later(self):\n        return 1\n" in found
    assert found.startswith(CART.partition("@")[0])
    assert {each.row for each in draft.check()} == {"A"}


def test_a_signed_bundle(cli: Cli, base: Path, tmp_path: Path, home: Path) -> None:
    """It is like one of `build`: signed, with its number, to be pushed."""
    cli("keygen", tmp_path / "ci.key", "--no-passphrase")
    (tmp_path / "checks.py").write_text("EXPECT = [('zdshop.cart:last', (), 2)]\n")
    draft = Draft("shop", str(base), id="fix-9")
    draft.probes.append(str(tmp_path / "checks.py"))

    def last() -> int:
        return 2

    draft.replace("zdshop.cart:last", last)
    draft.write(tmp_path / "fix.zdp", home=home)
    made = draft.write(tmp_path / "fix.zdp", sign=[str(tmp_path / "ci.key")], home=home)
    file = read_bundle(tmp_path / "fix.zdp")
    assert (made, file.manifest.seq, file.signatures) == ("FIX-9", 2, 1)
    assert [probe.name for probe in file.manifest.probes] == ["checks.py"]
    assert file.manifest.origin.new == "functions"
    assert file.patch().changes == draft.patch().changes


def test_the_package_as_it_is_imported(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a base it is what this interpreter would import, and nothing is."""
    monkeypatch.setattr(sys, "path", [str(base), *sys.path])
    draft = Draft("shop")
    draft.replace("zdshop.cart:last", local.check)
    with pytest.raises(ZdpatchError, match="it reads"):
        draft.patch()

    @draft.replaces("zdshop.cart:last")
    def last() -> int:
        return RATE

    assert "return RATE" in new_source(draft)
    assert "zdshop.cart" not in sys.modules


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("m:gone", "def f(): pass", "no function m:gone"),
        ("m:Cart.gone", "def f(self): pass", "no function"),
        ("m:price", "f = lambda: 1", "not that of one function"),
        ("m:price", "f = lambda: (", "does not stand alone"),
        ("m:price", "@cached\ndef f(x): pass", "it has a decorator, cached"),
        ("m:price", "def f(x): return helper(x)", "it reads helper, which m does not have"),
        ("m:price", "def f(x):\n    def g(): return items\n    return g", "it reads items"),
    ],
)
def test_what_cannot_take_the_place(path: str, text: str, why: str) -> None:
    """The author hears why, and no bundle is made."""
    with pytest.raises(ZdpatchError, match=why):
        graft(CART.encode(), path, text)


def test_texts_of_many_lines() -> None:
    """What is inside of a text keeps its place; line ends and encoding are the module's."""
    text = 'def f(self):\n    a = """x\n  y\nz"""\n    return f"""{a}\n{self!r}"""\n'
    source = ("# -*- coding: latin-1 -*-\n# \xe9\n" + CART).replace("\n", "\r\n").encode("latin-1")
    found = graft(source, "m:Cart.total", text)
    assert b'        a = """x\r\n  y\r\nz"""\r\n        return f"""{a}\r\n{self!r}"""\r\n' in found
    assert found.count(b"\r\n") == found.count(b"\n")
    assert "# \xe9\r\n".encode("latin-1") in found


def test_variables_of_another_function(base: Path) -> None:
    """A closure has what no text has."""
    draft, held = Draft("shop", str(base)), 3
    with pytest.raises(ZdpatchError, match="has variables of another function"):
        draft.replace("zdshop.cart:price", lambda: held)
    with pytest.raises(ZdpatchError, match="is none"):
        draft.replace("zdshop.cart:price", print)
    with pytest.raises(ZdpatchError, match="no function replaces anything"):
        draft.patch()


def test_what_cannot_go_in_place(base: Path, tmp_path: Path, home: Path) -> None:
    """It is refused when it is written, as by `build`."""
    draft = Draft("shop", str(base))

    @draft.replaces("zdshop.cart:price")
    def price(x: int, y: int, z: int) -> int:
        return x

    with pytest.raises(ZdpatchError) as caught:
        draft.write(tmp_path / "fix.zdp", home=home)
    assert caught.value.code == "ZDP-202"
    assert not (tmp_path / "fix.zdp").exists()
