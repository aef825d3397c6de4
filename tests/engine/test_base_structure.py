"""A source is no base of what runs when classes, wrappers, imports or names of it are others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zdpatch.agent import local
from zdpatch.patcher.errors import Refused
from zdpatch.patcher.running import Running, running
from zdpatch.patcher.situation import Situation

if TYPE_CHECKING:
    from types import ModuleType

TWO = "class A: pass\nclass B: pass\n"
CACHED = "from functools import lru_cache\n"
DATA = "from dataclasses import dataclass, field\nimport dataclasses\n"
FIELD = "class C:\n    x: list = field(default_factory=list)\n"

# What a process runs, a source that somebody takes for its base, the path and the words.
STRUCTURE = {
    "table": ("", "T = {}", "T", "T is not there, and the base binds it"),
    "computed": ("", "T = id(len) and 5", "T", "T is not there"),
    "import": ("", "import json", "json", "json is not there"),
    "from import": ("", "from json import dumps as d", "d", "d is not there"),
    "two values": ("", "T = 1\nT = T + 1", "T", "T is not there"),
    "with a star": ("", "from json import *\nT = 1", "T", "T is not there"),
    "decorated": ("", "def d(f): return f\n@d\ndef f(): pass", "d", "d is gone"),
    "attribute": ("class C: pass", "class C:\n    x = len('a')", "C.x", "C.x is not there"),
    "private": ("class C: pass", "class C:\n    __x = []", "C._C__x", "C._C__x is not there"),
    "slots": ("class C: pass", "class C:\n    __slots__ = ('a',)", "C.__slots__", "not there"),
    "no slots": ("class C:\n    __slots__ = ()", "class C: pass", "C", "has __slots__ here"),
    "other slots": (
        "class C:\n    __slots__ = ('a',)",
        "class C:\n    __slots__ = ('b',)",
        "C",
        "has the __slots__ ('a',) here",
    ),
    "bases": (
        f"{TWO}class C(A): pass",
        f"{TWO}class C(B): pass",
        "C",
        "is a class of (A) here, and of (B) in the base",
    ),
    "more bases": ("class C: pass", "class C(Exception): pass", "C", "a class of (object) here"),
    "fewer bases": ("class C(dict): pass", "class C: pass", "C", "a class of (dict) here"),
    "bases of a module": (
        "import io\nclass C(io.IOBase): pass",
        "import io\nclass C(io.RawIOBase): pass",
        "C",
        "a class of (IOBase) here, and of (io.RawIOBase) in the base",
    ),
    "bases inside": (
        "class C:\n    class D(list): pass",
        "class C:\n    class D(dict): pass",
        "C.D",
        "C.D is a class of (list) here",
    ),
    "metaclass": (
        "import abc\nclass C: pass",
        "import abc\nclass C(metaclass=abc.ABCMeta): pass",
        "C",
        "has the metaclass type here",
    ),
    "no metaclass": (
        "import abc\nclass C(metaclass=abc.ABCMeta): pass",
        "import abc\nclass C: pass",
        "C",
        "has the metaclass ABCMeta here",
    ),
    "module": (
        "import json as x",
        "import pickle as x",
        "x",
        "x is the module json here, and pickle in the base",
    ),
    "module in a package": (
        "from json import decoder as x",
        "from json import encoder as x",
        "x",
        "x is the module json.decoder here, and json.encoder in the base",
    ),
    "module for a class": (
        "import datetime",
        "from datetime import datetime",
        "datetime",
        "is the module datetime here, and datetime.datetime in the base",
    ),
    "cache": (
        f"{CACHED}def f(): pass",
        f"{CACHED}@lru_cache\ndef f(): pass",
        "f",
        "f is not made by @lru_cache here",
    ),
    "cache called": (
        f"{CACHED}def f(): pass",
        f"{CACHED}@lru_cache(None)\ndef f(): pass",
        "f",
        "f is not made by @lru_cache here",
    ),
    "size of a cache": (
        f"{CACHED}@lru_cache(8)\ndef f(): pass",
        f"{CACHED}@lru_cache(maxsize=9)\ndef f(): pass",
        "f",
        "f has a cache with maxsize=8",
    ),
    "no cache": (
        f"{CACHED}@lru_cache\ndef f(): pass",
        f"{CACHED}def f(): pass",
        "f",
        "was replaced",
    ),
    "property": (
        "class C:\n    def p(self): pass",
        "class C:\n    @property\n    def p(self): pass",
        "C.p",
        "C.p is not made by @property here",
    ),
    "static": (
        "class C:\n    @classmethod\n    def p(self): pass",
        "class C:\n    @staticmethod\n    def p(self): pass",
        "C.p",
        "C.p is not made by @staticmethod here",
    ),
    "dataclass": (
        f"{DATA}class C:\n    x: int = 1",
        f"{DATA}@dataclass\nclass C:\n    x: int = 1",
        "C",
        "C is no dataclass here",
    ),
    "no dataclass": (
        f"{DATA}@dataclasses.dataclass\nclass C:\n    x: int = 1",
        f"{DATA}class C:\n    x: int = 1",
        "C",
        "C is a dataclass here",
    ),
    "parameter of a dataclass": (
        f"{DATA}@dataclass(frozen=True)\nclass C:\n    x: int = 1",
        f"{DATA}@dataclass(frozen=False)\nclass C:\n    x: int = 1",
        "C",
        "C is a dataclass with frozen=True here",
    ),
}
# Values: programs may set another one, so these are asked of a source that is in question alone.
VALUES = {
    "pattern": ("import re\nP = re.compile('a')", "import re\nP = re.compile('b')"),
    "flags": ("import re\nP = re.compile('a')", "import re\nP = re.compile('a', re.I | re.M)"),
    "by its name": (
        "import re\nfrom re import compile\nP = compile('a')",
        "import re\nP = re.compile('b')",
    ),
    "duration": (
        "from datetime import timedelta\nP = timedelta(1)",
        "from datetime import timedelta\nP = timedelta(days=1, hours=2)",
    ),
    "decimal": (
        "import decimal\nP = decimal.Decimal('1.0')",
        "import decimal\nP = decimal.Decimal('1.00')",
    ),
    "frozenset": ("P = frozenset({'a'})", "P = frozenset(['a', 'b'])"),
    "tuple": ("P = tuple([1, 2])", "P = tuple([2, 1])"),
    "in a class": (
        "import re\nclass C:\n    P = re.compile('a')",
        "import re\nclass C:\n    P = re.compile('b')",
    ),
}
# What runs is another than the text seems to say, and lawfully.
EXPLAINED = {
    "deleted": "T = 1\nU = T\ndel T",
    "deleted by a function": "T = 1\ndef f():\n    global T\n    del T\nf()",
    "deleted of a class": "class C:\n    x = []\ndel C.x",
    "deleted by text": "T = 1\ndel globals()['T']",
    "popped": "T = 1\nglobals().pop('T')",
    "deleted by name": "class C:\n    x = []\ndelattr(C, 'x')",
    "conditional": "import os\nif os.sep == '?':\n    T = 1\n    class C(dict): pass",
    "tried": "try:\n    import nowhere_ as x\nexcept ImportError:\n    import json as x",
    "no turn": "for T in ():\n    U = 1",
    "asked for": "def __getattr__(name):\n    global T\n    T = 1\n    return T",
    "taken by a frame": "import os\ndef f(names):\n    names.pop('os')\n    "
    "names['__getattr__'] = len\nf(f.__globals__)",
    "set again": "import json\ndef f():\n    global json\n    import pickle as json\nf()",
    "from a star": "import json\nfrom os import *\nfrom os import path as json",
    "fields": f"{DATA}@dataclass\n{FIELD}",
    "fields made later": f"{DATA}{FIELD}C = dataclass(C)",
    "fields made in place": f"{DATA}{FIELD}dataclass(C)",
    "dataclass with slots": f"{DATA}@dataclass(slots=True, frozen=True)\nclass C:\n    x: int = 1",
    "enum": "import enum\nclass C(enum.Enum):\n    _ignore_ = 'y'\n    y = 1\n    A = 2",
    "named tuple": "import typing as t\nclass C(t.NamedTuple):\n    x: int = 1\nclass D(C):\n    "
    "__slots__ = ()",
    "typed dict": "import typing as t\nclass C(t.TypedDict): pass\nclass D(C, total=False): pass",
    "protocol": "import typing as t\nclass C(t.Protocol):\n    x = 1\nclass D(C, t.Protocol): pass",
    "generic": "import typing as t\nT = t.TypeVar('T')\nclass C(t.Generic[T]): pass\n"
    "class D(C[int]): pass",
    "own metaclass": "class M(type):\n    def __new__(m, n, b, d):\n        d.pop('x', None)\n"
    "        return type.__new__(m, n, (dict,), d)\nclass C(metaclass=M):\n    x = []\n"
    "class D(C): pass",
    "hook of a base": "class A:\n    def __init_subclass__(cls):\n"
    "        for name in [*cls.__dict__]:\n"
    "            if name == 'x':\n                type.__delattr__(cls, name)\nclass C(A):\n"
    "    x = []",
    "bases set": f"{TWO}class C(A): pass\nC.__bases__ = (B,)",
    "base bound again": "class A: pass\nclass C(A): pass\nclass A: pass",
    "own property": "class P(property): pass\nclass C:\n    @P\n    def p(self): pass",
    "setter": "class C:\n    @property\n    def p(self): pass\n"
    "    @p.setter\n    def p(self, v): 1",
    "unwrapped": f"{CACHED}def d(f): return f.__wrapped__\n@d\n@lru_cache\ndef f(): pass",
    "own cache": "def cache(f): return f\n@cache\ndef f(): pass",
    "shadowed": "import json as re\nclass re:\n    compile = len\nP = re.compile('abc')",
    "of a class": "class C:\n    tuple = sorted\n    P = tuple([2, 1])",
    "moved on": "import re\nP = re.compile('a')\n"
    "def f():\n    global P\n    P = re.compile('b')\nf()",
    "name of a class": "class C:\n    'What.'\n    def m(self): return __class__",
    "path": "import os.path as p\nfrom os import path as q\n"
    "import xml.dom.minidom as r\nimport xml.dom",
}


def run(module: ModuleType, source: str) -> None:
    """Make a module of a source."""
    exec(compile(source, str(module.__file__), "exec"), vars(module))


def compared(module: ModuleType, source: str) -> Running:
    """What is said of a source that somebody offers."""
    return running(module.__name__, source.encode(), (), (), 0.0)


def refused(module: ModuleType, base: str) -> str:
    """Why a patch for this base does not fit the process; "" when it does."""
    file = f"{module.__name__}.py"
    added = "\n\n\ndef added_():\n    return 1\n"
    try:
        Situation.of(local.make_patch({file: f"{base}\n"}, {file: base + added}))
    except Refused as error:
        return f"{error.code} {error.cause}"
    return ""


@pytest.mark.parametrize("way", sorted(STRUCTURE))
def test_another_structure_is_no_base(live: ModuleType, way: str) -> None:
    """What a deploy put in place of the running source is no base, and no patch for it fits."""
    source, other, path, words = STRUCTURE[way]
    run(live, source)
    found = compared(live, other)
    assert found.state == "drifted"
    assert found.first is not None
    assert found.first.path == f"{live.__name__}:{path}"
    assert words in found.first.what
    assert refused(live, other).startswith(f"ZDP-201 {live.__name__}:{path}")
    assert compared(live, source).state == "verified"
    assert refused(live, source) == ""


@pytest.mark.parametrize("way", sorted(VALUES))
def test_another_value_is_no_base(live: ModuleType, way: str) -> None:
    """A constant that the standard library makes of literals tells two sources apart."""
    source, other = VALUES[way]
    run(live, source)
    found = compared(live, other)
    assert found.state == "drifted"
    assert found.first is not None
    assert "P is " in found.first.what
    assert compared(live, source).state == "verified"
    assert refused(live, other) == ""  # it may have moved on from what the base says


@pytest.mark.parametrize("way", sorted(EXPLAINED))
def test_what_programs_do_is_explained(live: ModuleType, way: str) -> None:
    """Names that a module takes back, classes made otherwise: its own source is its base."""
    run(live, EXPLAINED[way])
    found = compared(live, EXPLAINED[way])
    assert found.state == "verified", found.first
    assert refused(live, EXPLAINED[way]) == ""
