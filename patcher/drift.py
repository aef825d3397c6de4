"""A process drifts when it runs something that its base does not explain; it is not patched then.

Three questions. Does each live function of the module run code that the base has under this path?
Is each plain definition of the base, one which nothing in the source decorates, rebinds or
makes conditional, still what its name is bound to? And is every name there which the base binds
whatever happens? What programs do lawfully at run time is not
drift: functions made by `exec` (dataclasses, attrs), decorators' results, names set or deleted by
the module itself, conditional definitions that were not taken.
"""

from __future__ import annotations

from abc import ABCMeta
from dataclasses import dataclass
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Final, Literal, cast

from zdpatch.patcher import codes, reach
from zdpatch.patcher.bytecode import Bound, Definition, Written
from zdpatch.patcher.trampoline import behind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType

    from zdpatch.patcher.inventory import Inventory, LiveFunction

What = Literal["changed", "unknown", "replaced", "missing"]

# What these do to a class leaves its plain methods alone.
_HARMLESS_MODULES: Final = frozenset({"builtins", "abc", "enum", "typing"})
# What marks a class whose fields somebody took out of its names.
_TAKEN_OUT: Final = frozenset({"__dataclass_fields__", "__attrs_attrs__"})
_COMPILED: Final = frozenset(
    {BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType}
)
# Python makes static or class methods of these by itself (the last one: Enum, from 3.12 on).
_MAKERS_OF_STATIC: Final = frozenset(
    {"__init_subclass__", "__class_getitem__", "__new__", "_generate_next_value_"}
)


@dataclass(frozen=True, slots=True)
class Drift:
    """One live thing that the base does not explain.

    `path` is "module:qualname", `line` its line in the base (in the live code when the base has
    nothing there), `what` a clause for people. `kind`: "changed" (the function runs other code),
    "unknown" (the base has no such function), "replaced" (its name is bound to something else),
    "missing" (the name or the function is gone).
    """

    path: str
    line: int
    what: str
    kind: What


def drift(
    inventory: Inventory, base: CodeType | Written, known: Collection[CodeType] = ()
) -> list[Drift]:
    """What of `inventory` the source behind `base` does not explain, in order of lines.

    `base` is the module code compiled from the source that should be running, whatever its file
    name, or what has been read of it. `known` are further codes whose presence is explained
    (closures that an active patch had to leave on old code).
    """
    written = base if isinstance(base, Written) else Written(base)
    compared = _Comparison(inventory, written, known)
    found = [*compared.functions(), *compared.definitions()]
    unique = {(d.path, d.line, d.kind): d for d in found}
    return sorted(unique.values(), key=lambda d: (d.line, d.path))


class _Comparison:
    def __init__(self, inventory: Inventory, base: Written, known: Collection[CodeType]) -> None:
        self.inventory = inventory
        self.base = base
        self.known = {codes.digest(code) for code in known}
        self.live = {
            id(f.function): codes.digest(f.code)
            for functions in inventory.functions.values()
            for f in functions
        }
        self.files = self._files()
        self.bound: set[int] = set()  # classes found where their only statement put them
        self.plain: set[int] = set()  # those of them that nothing decorates

    def _files(self) -> set[str]:
        """File names which the module's own code has; other code was made by `exec`."""
        space = self.inventory.namespace
        explained = {
            f.code.co_filename
            for functions in self.inventory.functions.values()
            for f in functions
            if self.explains(f)
        }
        file = space.get("__file__")
        return explained | ({file} if type(file) is str else set())

    def explains(self, live: LiveFunction) -> bool:
        digest = self.live[id(live.function)]
        return digest in self.base.digests.get(live.qualname, ()) or digest in self.known

    def functions(self) -> Iterator[Drift]:
        """Live functions from the module's own file that run what the base has not."""
        for path, functions in self.inventory.functions.items():
            for live in functions if path not in self.base.lazy else ():
                if self.explains(live) or live.code.co_filename not in self.files:
                    continue
                if path in self.base.flat:
                    line = self.base.flat[path][0].co_firstlineno
                    what = f"{live.where} runs code that differs from the base"
                    yield self._drift(path, line, what, "changed")
                elif not live.left_over:
                    line = live.code.co_firstlineno
                    what = f"{live.where} runs code that the base does not have"
                    yield self._drift(path, line, what, "unknown")

    def definitions(self) -> Iterator[Drift]:
        """Plain definitions of the module and of its plainly made classes."""
        space = self.inventory.namespace
        yield from self._body(self.base.code, space, "", strict=True)
        for path, bodies in self.base.class_bodies.items():
            made_here = [c for c in self.inventory.classes.get(path, []) if self._made(c, path)]
            for cls in made_here if len(bodies) == 1 else []:
                own = {str(key): value for key, value in reach.items(reach.class_dict(cls))}
                strict = plainly_made(cls)
                yield from self._body(bodies[0], own, path + ".", strict=strict)
                if strict and id(cls) in self.plain and keeps_names(cls):
                    yield from self._absent(self.base.bound(bodies[0]), own, path + ".")

    def _made(self, cls: type, path: str) -> bool:
        """Whether the class statement made it; a named tuple or a C class may share its name."""
        return id(cls) in self.bound or self._runs(cls, path)

    def _runs(self, cls: type, path: str) -> bool:
        """Whether a class has methods that were written in the class statement `path`."""
        return any(
            function.__globals__ is self.inventory.namespace
            and function.__code__.co_qualname.startswith(path + ".")
            for _, value in reach.items(reach.class_dict(cls))
            for function in reach.inner_functions(value)
        )

    def _body(
        self, body: CodeType, space: dict[str, object], prefix: str, *, strict: bool
    ) -> Iterator[Drift]:
        surely = self.base.bound(body)
        for name in surely.once:
            value = space.get(name)
            if reach.is_a(value, type) and reach.qualname(cast("type", value)) == prefix + name:
                self.bound.add(id(value))
        for made in surely.definitions:
            if codes.is_class_body(made.code):
                found = self._class(made, space, strict=strict)
            else:
                found = self._function(made, space, strict=strict)
            if found is not None:
                kind, what = found
                path = prefix + made.code.co_name
                yield self._drift(path, made.code.co_firstlineno, f"{path} {what}", kind)
        if not prefix and "__getattr__" not in space:  # that one may answer for what is gone
            yield from self._absent(surely, space, prefix)

    def _absent(self, surely: Bound, space: dict[str, object], prefix: str) -> Iterator[Drift]:
        """Names that the base binds for sure, and that nothing is bound to."""
        said = {made.name for made in surely.definitions}
        gone = [
            name
            for name in surely.lines
            if name not in space and name not in said and not (prefix and _is_special(name))
        ]
        for name in gone if not self.base.deletes_by_text else ():
            path = prefix + name
            what = f"{path} is not there, and the base binds it"
            yield self._drift(path, surely.lines[name], what, "missing")

    def _function(
        self, made: Definition, space: dict[str, object], *, strict: bool
    ) -> tuple[What, str] | None:
        if made.name not in space:
            bound: object = None
            complaint: tuple[What, str] = ("missing", "is gone from its namespace")
        else:
            bound = space[made.name]
            complaint = ("replaced", f"was replaced at run time by {_describe(bound)}")
            if _is_compiled(bound):
                name = reach.qualname(type(bound))
                complaint = ("replaced", f"is compiled code here ({name}), and a def in the base")
        functions = reach.inner_functions(bound)
        plain = type(bound) is FunctionType or made.name in _MAKERS_OF_STATIC
        if plain and any(self._is(made, function) for function in functions):
            return None
        if reach.is_a(bound, ModuleType):  # the package imported a submodule of this name
            return None
        # Something at the class's making wrapped or moved it (an Enum keeps its `__new__` aside).
        if (not strict or made.name == "__new__") and self._alive(made):
            return None
        return complaint

    def _is(self, made: Definition, function: FunctionType) -> bool:
        """Whether it runs the definition's code, or some that is reported or explained already."""
        if function.__globals__ is not self.inventory.namespace:
            return False
        code = behind(function.__code__)
        if code.co_qualname == made.code.co_qualname and code.co_filename in self.files:
            return True  # if it differs, `functions` says so
        digest = codes.digest(code)
        return digest == codes.digest(made.code) or digest in self.known

    def _alive(self, made: Definition) -> bool:
        wanted = codes.digest(made.code)
        functions = self.inventory.functions.get(made.code.co_qualname, [])
        return any(self.live[id(f.function)] == wanted for f in functions)

    def _class(
        self, made: Definition, space: dict[str, object], *, strict: bool
    ) -> tuple[What, str] | None:
        if made.name not in space:
            # A metaclass may read a class of options and leave it out (Django's `Meta`).
            return ("missing", "is gone from its namespace") if strict else None
        bound = space[made.name]
        # A metaclass may make anything of a class statement (an interface, a table of rules).
        if not reach.is_a(bound, type) and not is_mock(bound):
            return None
        if reach.is_a(bound, type):
            cls, path = cast("type", bound), made.code.co_qualname
            qualname = reach.qualname(cls)
            # a metaclass, or the body itself, may give it another path
            renamed = qualname.rpartition(".")[2] == made.name and self._runs(cls, path)
            if qualname == path or renamed:
                self.plain.add(id(cls))
                return None
        return "replaced", f"was replaced at run time by {_describe(bound)}"

    def _drift(self, qualname: str, line: int, what: str, kind: What) -> Drift:
        return Drift(f"{self.inventory.name}:{qualname}", line, what, kind)


def _is_special(name: str) -> bool:
    """Whether a class statement may keep it for itself (`__qualname__`, `.type_params`)."""
    dunder = name.startswith("__") and name.endswith("__") and name != "__slots__"
    return dunder or not name.isidentifier()


def _is_compiled(value: object) -> bool:
    """Whether it is a function or method that no Python code object is behind."""
    return type(value) in _COMPILED or "cython" in reach.qualname(type(value)).lower()


def is_mock(value: object) -> bool:
    """Whether it is an object of `unittest.mock`, or of the package it came from."""
    return any(
        str(reach.class_dict(cls).get("__module__")).startswith(("unittest.mock", "mock"))
        for cls in type(value).__mro__
    )


def _describe(value: object) -> str:
    if type(value) is FunctionType:
        module = value.__globals__.get("__name__")
        return f"{module if type(module) is str else '?'}:{value.__code__.co_qualname}"
    if reach.is_a(value, type):
        return f"the class {reach.qualname(cast('type', value))}"
    return f"an object of type {reach.qualname(type(value))}"


def plainly_made(cls: type) -> bool:
    """Whether nothing but the class statement itself had a say in what its methods are."""
    if _home(type(cls)) not in _HARMLESS_MODULES:
        return False
    bases = type.__dict__["__mro__"].__get__(cls)[1:]
    hooks = (b for b in bases if "__init_subclass__" in reach.class_dict(b))
    return all(_home(base) in _HARMLESS_MODULES for base in hooks)


def keeps_names(cls: type) -> bool:
    """Whether nobody takes names out of its body, as an Enum does, or who makes a dataclass."""
    own = reach.class_dict(cls)
    return type(cls) in {type, ABCMeta} and _TAKEN_OUT.isdisjoint(own)


def _home(cls: type) -> str:
    module = reach.class_dict(cls).get("__module__")
    return module if type(module) is str else "builtins"
