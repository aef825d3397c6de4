"""A source is no base of what runs when a value, or what the standard library made, is another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zdpatch.patcher.running import Running, running

if TYPE_CHECKING:
    from types import ModuleType

CHILD = Path(__file__).parent / "own_files_child.py"
AB = "def a(): return 1\ndef b(): return 2\n"
CLASSES = "class A: pass\nclass B: pass\n"
DATA = "from dataclasses import dataclass, field\n"
ENUM = "import enum\n"

# What a process runs, a source that somebody takes for its base, the words of the difference.
OTHER = {
    "keyword-only default": ("def g(*, a=1): 0", "def g(*, a=2): 0", "g has the default a=1 here"),
    "no keyword-only default": ("def g(*, a=1): 0", "def g(*, a): 0", "g has a default of a here"),
    "a keyword-only default": ("def g(*, a): 0", "def g(*, a=1): 0", "g has no default of a here"),
    "fewer defaults": ("def g(a=1): 0", "def g(a): 0", "g has 1 defaults here, and 0"),
    "default of a method": (
        "class C:\n    def m(self, *, a=1): 0",
        "class C:\n    def m(self, *, a=2): 0",
        "C.m has the default a=1 here",
    ),
    "type of a default": ("def g(a=1): 0", "def g(a=True): 0", "g has the default a=1 here"),
    "function as a default": (f"{AB}def g(k=a): 0", f"{AB}def g(k=b): 0", "the default k=a here"),
    "int for bool": ("T = 1", "T = True", "T is 1 here and True in the source"),
    "bool for int": ("T = False", "T = 0", "T is False here and 0 in the source"),
    "text for bytes": ("T = 'a'", "T = b'a'", "T is 'a' here"),
    "zero": ("T = 0.0", "T = -0.0", "T is 0.0 here"),
    "of a row": ("S, T = 1, 2", "S, T = 1, 3", "T is 2 here"),
    "concatenated": ("T = ('a',) + ('b',)", "T = ('a',) + ('c',)", "T is ('a', 'b') here"),
    "of another name": ("V = 1\nT = V + 1", "V = 1\nT = V + 2", "T is 2 here"),
    "text of a constant": ("V = 1\nT = f'{V}a'", "V = 1\nT = f'{V}b'", "T is '1a' here"),
    "method of a text": ("T = 'a b'.split()", "T = 'a c'.split()", "T is ['a', 'b'] here"),
    "of a class": ("class C:\n    x = 1", "class C:\n    x = True", "C.x is 1 here"),
    "list": ("T = [1, 2]", "T = [1, 3]", "T is [1, 2] here"),
    "table": ("T = {'a': 1}", "T = {'a': 2}", "T is {'a': 1} here"),
    "table of functions": (f"{AB}T = {{'x': a}}", f"{AB}T = {{'x': b}}", "T is an object of dict"),
    "row of classes": (f"{CLASSES}T = (A,)", f"{CLASSES}T = (B,)", "T is an object of tuple here"),
    "alias": (f"{AB}c = a", f"{AB}c = b", "c is a here and b in the source"),
    "alias of a class": (f"{CLASSES}C = A", f"{CLASSES}C = B", "C is the class A here"),
    "instance": (f"{CLASSES}k = A()", f"{CLASSES}k = B()", "k is an object of A here"),
    "attribute": ("def g(): 0\ng.x = 1", "def g(): 0\ng.x = 2", "g has x = 1 here"),
    "property": (
        "class C:\n    def a(self): 1\n    def b(self): 2\n    p = property(a)",
        "class C:\n    def a(self): 1\n    def b(self): 2\n    p = property(b)",
        "C.p is an object of property here",
    ),
    "imported function": (
        "from json import dumps as d",
        "from json import loads as d",
        "d is json:dumps here, and json.loads in the source",
    ),
    "imported class": (
        "from collections import OrderedDict as D",
        "from typing import OrderedDict as D",
        "D is collections:OrderedDict here",
    ),
    "partial": (
        "from functools import partial\nP = partial(int, 1)",
        "from functools import partial\nP = partial(int, 2)",
        "P is an object of partial here",
    ),
    "function of a partial": (
        f"{AB}from functools import partial\nP = partial(a, k=1)",
        f"{AB}from functools import partial\nP = partial(b, k=1)",
        "P is an object of partial here",
    ),
    "context variable": (
        "from contextvars import ContextVar\nV = ContextVar('V', default=1)",
        "from contextvars import ContextVar\nV = ContextVar('V', default=2)",
        "V is an object of ContextVar here",
    ),
    "no default of a context variable": (
        "from contextvars import ContextVar\nV = ContextVar('V', default=1)",
        "from contextvars import ContextVar\nV = ContextVar('V')",
        "V is an object of ContextVar here",
    ),
    "proxy": (
        f"{AB}from types import MappingProxyType as P\nT = P({{'a': a}})",
        f"{AB}from types import MappingProxyType as P\nT = P({{'a': b}})",
        "T is an object of mappingproxy here",
    ),
    "annotation": ("def g(x: int): 0", "def g(x: str): 0", "the annotation x: the class int here"),
    "annotation as text": (
        "from __future__ import annotations\ndef g(x: int): 0",
        "from __future__ import annotations\ndef g(x: str): 0",
        "the annotation x: 'int' here",
    ),
    "wraps": (
        f"{AB}from functools import wraps\n@wraps(a)\ndef g(): 0",
        f"{AB}from functools import wraps\n@wraps(b)\ndef g(): 0",
        "g wraps a here, and b in the source",
    ),
    "registered": (
        "from functools import singledispatch\n@singledispatch\ndef g(x): 1\n"
        "@g.register(int)\ndef h(x): 2",
        "from functools import singledispatch\n@singledispatch\ndef g(x): 1\n"
        "@g.register(str)\ndef h(x): 2",
        "h is not registered for str here",
    ),
    "abstract": (
        "import abc\nclass C(abc.ABC):\n    @abc.abstractmethod\n    def m(self): 0",
        "import abc\nclass C(abc.ABC):\n    def m(self): 0",
        "C.m is abstract here, and not in the source",
    ),
    "not abstract": (
        "import abc\nclass C(abc.ABC):\n    def m(self): 0",
        "import abc\nclass C(abc.ABC):\n    @abc.abstractmethod\n    def m(self): 0",
        "C.m is not abstract here, and in the source",
    ),
    "ordering": (
        "from functools import total_ordering\n@total_ordering\nclass C:\n"
        "    def __lt__(self, o): 1",
        "from functools import total_ordering\nclass C:\n    def __lt__(self, o): 1",
        "C has the comparisons of total_ordering here",
    ),
    "no ordering": (
        "from functools import total_ordering\nclass C:\n    def __lt__(self, o): 1",
        "from functools import total_ordering\n@total_ordering\nclass C:\n"
        "    def __lt__(self, o): 1",
        "C does not have the comparisons of total_ordering here",
    ),
    "member": (
        f"{ENUM}class E(enum.IntEnum):\n    A = 1",
        f"{ENUM}class E(enum.IntEnum):\n    A = 2",
        "E has the member A = 1 here",
    ),
    "order of members": (
        f"{ENUM}class E(enum.Enum):\n    A = enum.auto()\n    B = enum.auto()",
        f"{ENUM}class E(enum.Enum):\n    B = enum.auto()\n    A = enum.auto()",
        "E has the member B = 2 here",
    ),
    "more members": (
        f"{ENUM}class E(enum.Enum):\n    A = 1",
        f"{ENUM}class E(enum.Enum):\n    A = 1\n    B = 2",
        "E has no member B here",
    ),
    "fewer members": (
        f"{ENUM}class E(enum.Enum):\n    A = 1\n    B = 2",
        f"{ENUM}class E(enum.Enum):\n    A = 1",
        "E has a member B here",
    ),
    "named tuple": (
        "from collections import namedtuple\nP = namedtuple('P', 'a b')",
        "from collections import namedtuple\nP = namedtuple('P', 'a b c')",
        "P is the class P here",
    ),
    "base that is a named tuple": (
        "from collections import namedtuple\nclass P(namedtuple('P', 'a b')): pass",
        "from collections import namedtuple\nclass P(namedtuple('P', 'a b c')): pass",
        "P is a class of another base here",
    ),
    "fields of a named tuple": (
        "import typing\nclass P(typing.NamedTuple):\n    a: int\n    b: int",
        "import typing\nclass P(typing.NamedTuple):\n    b: int\n    a: int",
        "P has the fields a, b here",
    ),
    "default of a named tuple": (
        "import typing\nclass P(typing.NamedTuple):\n    a: int = 1",
        "import typing\nclass P(typing.NamedTuple):\n    a: int = 2",
        "P has the default a=1 here",
    ),
    "frozen": (
        f"{DATA}@dataclass(frozen=True)\nclass C:\n    x: int = 1",
        f"{DATA}@dataclass\nclass C:\n    x: int = 1",
        "C is a dataclass with frozen=True here",
    ),
    "default of a field": (
        f"{DATA}@dataclass\nclass C:\n    x: int = field(default=1)",
        f"{DATA}@dataclass\nclass C:\n    x: int = field(default=2)",
        "C has the field x with default=1 here",
    ),
    "factory of a field": (
        f"{DATA}@dataclass\nclass C:\n    x: list = field(default_factory=list)",
        f"{DATA}@dataclass\nclass C:\n    x: list = field(default_factory=dict)",
        "C has the field x with default_factory=the class list here",
    ),
    "option of a field": (
        f"{DATA}@dataclass\nclass C:\n    x: int = field(default=1, repr=False)",
        f"{DATA}@dataclass\nclass C:\n    x: int = field(default=1)",
        "C has the field x with repr=False here",
    ),
}
# What lives is another than the text seems to say, and lawfully.
EXPLAINED = {
    "filled table": "T = {}\nT['a'] = 1",
    "filled by a method": "T = ['a']\nT.append('b')",
    "filled by a call": "def fill(t): t['b'] = 2\nT = {'a': 1}\nfill(T)",
    "filled later": "T = {'a': 1}\ndef f():\n    T.update(b=2)\nf()",
    "computed and filled": "T = [n for n in range(3)]\nT.insert(0, 5)",
    "set later": "import sys\nT = None\nvars(sys.modules[__name__]).update(T=5)",
    "builtin of the name": "import json\nclass C:\n    m = json\n    def json(self): 0",
    "descriptor": "m = str.maketrans\nf = dict.fromkeys",
    "overloads": "import typing\n@typing.overload\ndef g(x: int, y: int = ...): ...\n"
    "@typing.overload\ndef g(x: str, y: int = ...): ...\ndef g(x, y=2): return x",
    "wrapped when registered": "import functools, contextlib\n@functools.singledispatch\n"
    "def g(x): 0\n@g.register(int)\n@contextlib.contextmanager\ndef h(x): yield",
    "abstract wrapper": "import abc, functools\ndef d(f):\n    @functools.wraps(f)\n"
    "    def w(*a): return f(*a)\n    return w\nclass C(abc.ABC):\n    @abc.abstractmethod\n"
    "    @d\n    def m(self): 0",
    "member that makes itself": f"{ENUM}class E(enum.IntEnum):\n    def __new__(cls, v, p):\n"
    "        self = int.__new__(cls, v)\n        self._value_ = v\n        return self\n"
    "    A = 1, 'one'",
    "flags": f"{ENUM}class E(enum.Flag):\n    A = enum.auto()\n    B = enum.auto()\n    C = A | B",
    "members by text": f"{ENUM}class E(str, enum.Enum):\n    A = 'a'\n    B = 'b'",
    "type variables": "import typing\nT = typing.TypeVar('T')\nP = typing.ParamSpec('P')",
    "new of its own": "class C:\n    def __new__(cls): return 5\nk = C()",
    "slots of a dataclass": f"{DATA}@dataclass(slots=True)\nclass C:\n    x: int = 1\n"
    "    y: list = field(default_factory=list)",
    "own fields": f"{DATA}import functools\nmine = functools.partial(field, default=3)\n"
    "@dataclass\nclass C:\n    x: int = mine()",
    "environment": "import os\nT = os.environ.get('HOME', '/')",
    "lambda": "f = lambda: 1\nT = {'a': lambda x=1: x}",
    "default before the name": "x = 1\nclass C:\n    def x(self, y=x): return y",
    "cast": "import typing\nT = typing.cast(int, 'a')",
    "partial of a partial": "from functools import partial\nP = partial(partial(int, 1), base=2)",
}


def run(module: ModuleType, source: str) -> None:
    """Make a module of a source."""
    exec(compile(source, str(module.__file__), "exec", dont_inherit=True), vars(module))


def compared(module: ModuleType, source: str) -> Running:
    """What is said of a source that somebody offers."""
    return running(module.__name__, source.encode(), (), (), 0.0)


@pytest.mark.parametrize("way", sorted(OTHER))
def test_another_value_is_no_base(live: ModuleType, way: str) -> None:
    """What a deploy put in place of the running source is no base, and the difference is named."""
    source, other, words = OTHER[way]
    run(live, source)
    found = compared(live, other)
    assert found.state == "drifted"
    assert found.first is not None
    assert words in found.first.what
    assert found.first.line
    own = compared(live, source)
    assert own.state == "verified", own.first


@pytest.mark.parametrize("way", sorted(EXPLAINED))
def test_what_programs_do_is_explained(live: ModuleType, way: str) -> None:
    """Tables that are filled, names set by others, objects that make themselves: no difference."""
    run(live, EXPLAINED[way])
    found = compared(live, EXPLAINED[way])
    assert found.state == "verified", found.first


@pytest.mark.timeout(300)
def test_real_packages_are_what_their_files_say() -> None:
    """Each module that is loaded with them is compared with its own file, as one in doubt."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CHILD)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compared, drifted = json.loads(done.stdout.splitlines()[-1])
    assert drifted == []
    assert compared > 100
