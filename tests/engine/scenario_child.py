"""Runs scenarios, each in a fork of this process: no scenario can see another, and none pays for
the imports.

A program, not a module: reads one JSON scenario a line on stdin, answers one JSON report a line
on stdout. The order of one scenario: import the base, make live state, check `was`; plan (which
must touch nothing); apply, revert, and every object must be the one it was before; apply again,
check `now`; revert, check `back`. A scenario with `refused` must be refused with those verdicts
and nothing touched.
"""

from __future__ import annotations

import ast
import faulthandler
import functools
import importlib
import inspect
import json
import os
import signal
import sys
import tempfile
import textwrap
import threading
import traceback
import types
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zdpatch.agent import local
from zdpatch.patcher.errors import Verdict, ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zdpatch.patcher.source import Patch

LIMIT_S = 150
CACHED = type(functools.lru_cache(len))
PLAIN = frozenset({type(None), bool, int, float, str, bytes, complex, type(...)})
importlib.import_module("asyncio")  # before the forks: a dozen scenarios use it


class Failed(Exception):  # noqa: N818  # it is a verdict, not an error of this program
    """The scenario does not hold; the text says where."""


# -- fingerprint -----------------------------------------------------------------------------------


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name in ("__code__", "__defaults__", "__kwdefaults__", "__doc__", "__name__"):
        yield name, getattr(function, name)
    for name, value in function.__annotations__.items():
        yield f"annotation {name}", value
    for name, value in function.__dict__.items():
        yield f"dict {name}", value
    for number, cell in enumerate(function.__closure__ or ()):
        yield f"cell {number}", cell
        try:
            yield f"contents {number}", cell.cell_contents
        except ValueError:
            continue


def _is(value: object, *kinds: type) -> bool:
    """isinstance() asks the value for its class, which can be anybody's code; this does not."""
    return issubclass(type(value), kinds)


def _parts(value: Any) -> Iterable[tuple[str, object]]:  # noqa: ANN401, PLR0911
    """What `value` is made of, without calling anything of its own."""
    if _is(value, types.FunctionType):
        return _function_parts(value)
    if _is(value, type):
        space = cast("dict[str, object]", dict(vars(cast("type", value))))
        own = [(f".{name}", part) for name, part in space.items() if name != "__dict__"]
        return [*own, *((f"base {n}", base) for n, base in enumerate(value.__bases__))]
    if _is(value, types.MethodType):
        return [("self", value.__self__), ("func", value.__func__)]
    if _is(value, staticmethod, classmethod):
        return [("wrapped", value.__func__)]
    if _is(value, property):
        return [("get", value.fget), ("set", value.fset), ("del", value.fdel)]
    if _is(value, functools.partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if type(value) is dict:
        items = cast("dict[object, object]", value).items()
        return [(f"[{key!r:.40}]", item) for key, item in items if type(key) in PLAIN]
    if type(value) in (list, tuple):
        return [(f"[{number}]", item) for number, item in enumerate(value)]
    try:
        state = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    attributes = cast("dict[str, object]", state if type(state) is dict else {})
    return [(f"state {key}", item) for key, item in attributes.items()]


def _foreign(value: Any, own: set[str]) -> bool:  # noqa: ANN401
    if _is(value, types.ModuleType):
        return value.__name__ not in own
    if _is(value, type, types.FunctionType):
        return value.__module__ not in own
    return type(value) in PLAIN or _is(value, types.CodeType)


def fingerprint(names: Iterable[str]) -> dict[str, object]:
    """Every object reachable through the modules `names`, by the way to it.

    It holds them, so that an id stays theirs. Breadth first and in the order of names, so that the
    ways do not depend on the order in which names were bound.
    """
    own = set(names)
    found: dict[str, object] = {}
    seen: set[int] = set()
    level: list[tuple[str, object]] = []
    for name in sorted(own & sys.modules.keys()):
        found[name] = sys.modules[name]
        values = vars(sys.modules[name]).items()
        # Anybody's exec() adds __builtins__.
        level += [(f"{name}:{key}", item) for key, item in values if key != "__builtins__"]
    while level:
        below: list[tuple[str, object]] = []
        for way, value in sorted(level, key=lambda pair: pair[0]):
            found[way] = value
            if id(value) in seen or _foreign(value, own):
                continue
            seen.add(id(value))
            below += [(f"{way} {part}", item) for part, item in _parts(value)]
        level = below
    return found


def difference(
    before: dict[str, object], after: dict[str, object], *, state: bool = True
) -> list[str]:
    """Ways whose object is another one, in words; empty when nothing was touched.

    `state=False` leaves out what the scenario itself may have changed: items and attributes.
    """
    missing = object()
    return [
        f"{way}: {before.get(way, '(none)')!r:.80} -> {after.get(way, '(none)')!r:.80}"
        for way in sorted(before.keys() | after.keys())
        if before.get(way, missing) is not after.get(way, missing)
        and (state or not (" [" in way or " state " in way or " contents " in way))
    ][:8]


def surroundings() -> dict[str, object]:
    """What a patch may not change in the interpreter itself."""
    foreign = {
        name
        for name in sys.modules
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("zdpatch")
    }
    return {
        "sys.modules": sorted(foreign),
        "sys.meta_path": [id(finder) for finder in sys.meta_path],
        "sys.path": list(sys.path),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "switch interval": sys.getswitchinterval(),
    }


# -- checks ----------------------------------------------------------------------------------------


def _explain(node: ast.expr, scope: dict[str, Any]) -> str:
    if isinstance(node, ast.Compare) and len(node.comparators) == 1:
        left, right = node.left, node.comparators[0]
        values = [
            eval(compile(ast.Expression(side), "<check>", "eval"), scope) for side in (left, right)
        ]
        return f"{values[0]!r:.300} against {values[1]!r:.300}"
    return "false"


def check(stage: str, text: str, scope: dict[str, Any]) -> None:
    """Each expression statement of `text` must be true; other statements are run."""
    for node in ast.parse(text).body:
        shown = ast.unparse(node)
        try:
            if isinstance(node, ast.Expr):
                code = compile(ast.Expression(node.value), f"<{stage}>", "eval")
                if not eval(code, scope):
                    raise Failed(f"{stage}: {shown}: {_explain(node.value, scope)}")
            else:
                exec(compile(ast.Module([node], []), f"<{stage}>", "exec"), scope)
        except Failed:
            raise
        except BaseException as error:
            raise Failed(f"{stage}: {shown}: raised\n{traceback.format_exc()}") from error


def raises(call: Callable[[], object], *kinds: type[BaseException]) -> bool:
    """True when `call()` raises one of `kinds`: for the check lines of scenarios."""
    try:
        call()
    except kinds:
        return True
    return False


def _called(function: Callable[..., object]) -> object:
    """What `function` gives for its required parameters, each a small number; an exception by
    its name.
    """
    try:
        wanted = [
            one
            for one in inspect.signature(function).parameters.values()
            if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
        ]
        value = function(*range(1, len(wanted) + 1))
        return [*value] if inspect.isgenerator(value) else value
    except Exception as error:  # noqa: BLE001
        return type(error).__name__


def _looked(value: Any, deep: int = 0) -> object:  # noqa: ANN401
    if inspect.isfunction(value) or inspect.isclass(value):
        home: str = value.__module__
        if home not in ("m", "user"):
            return f"{home}.{value.__qualname__}"
    if isinstance(value, type):
        return observe_class(value)
    if inspect.isfunction(value) or inspect.ismethod(value):
        result = _called(value)
        function = value.__func__ if inspect.ismethod(value) else value
        told = (repr(function.__defaults__), repr(function.__kwdefaults__), value.__doc__)
        return (told, _looked(result, deep + 1) if deep < 3 else "deep")
    if type(value) is CACHED:
        return ("cached", repr(_called(value)))
    return value.__name__ if inspect.ismodule(value) else repr(value)


def observe_class(cls: type) -> dict[str, object]:
    """Everything a user sees of a class: its own names, and what a new instance's methods give."""
    seen: dict[str, object] = {"__doc__": cls.__doc__}
    try:
        one: Any = cls()
    except Exception as error:  # noqa: BLE001
        one = type(error).__name__
    for name in [key for key in vars(cls) if not key.startswith("__")]:
        try:
            seen[name] = _looked(getattr(one, name))
        except Exception as error:  # noqa: BLE001
            seen[name] = type(error).__name__
    return seen


def observe(module: types.ModuleType) -> dict[str, object]:
    """Everything a user sees of a module: its names, values, and what its functions give."""
    return {
        name: _looked(value)
        for name, value in sorted(vars(module).items())
        if not name.startswith("__") or name == "__all__"
    }


def same_as_fresh(sources: dict[str, str]) -> bool:
    """True when the live modules show what a fresh import of `sources`, in that order, shows."""
    live = {name: sys.modules[name] for name in sources}
    fresh = {name: types.ModuleType(name) for name in sources}
    try:
        sys.modules.update(fresh)
        for name, source in sources.items():
            code = compile(source, "<fresh>", "exec", dont_inherit=True)
            exec(code, vars(fresh[name]))
    finally:
        sys.modules.update(live)
    for name in sources:
        seen, wanted = observe(live[name]), observe(fresh[name])
        unequal = [
            f"{name}:{key}: {seen.get(key, '(none)')} against {wanted.get(key, '(none)')}"
            for key in sorted(seen.keys() | wanted.keys())
            if seen.get(key) != wanted.get(key)
        ]
        if unequal:
            raise Failed("live against fresh: " + "; ".join(unequal)[:2000])
    return True


# -- one scenario ----------------------------------------------------------------------------------


class Scenario:
    """One scenario in its own process: files in a fresh directory, modules imported, live state
    made.
    """

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.files: dict[str, str] = case["base"]
        self.new: dict[str, str] = case["new"]
        self.gone: list[str] = case["gone"]
        self.outside: dict[str, str] = case["outside"]
        self.lazy: list[str] = case["lazy"]
        self.names = [self._name(path) for path in [*self.files, *self.new, *self.outside]]
        self.module = types.ModuleType("scene")
        self.scope: dict[str, Any] = vars(self.module)

    @staticmethod
    def _name(path: str) -> str:
        return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def text(self, section: str) -> str:
        """The lines of a section, empty when the scenario has none."""
        return str(self.case["sections"].get(section, ""))

    def begin(self) -> None:
        """Write the base, import it, make the live state."""
        root = Path(tempfile.mkdtemp(prefix="scenario-"))
        for path, text in {**self.files, **self.outside}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        sys.modules["scene"] = self.module
        self.scope.update(
            raises=raises,
            called=_called,
            ZdpatchError=ZdpatchError,
            same_as_fresh=same_as_fresh,
            sys=sys,
            inspect=inspect,
            textwrap=textwrap,
            root=root,
        )
        for path in [*self.files, *self.outside]:
            if path not in self.lazy:
                name = self._name(path)
                importlib.import_module(name)
                if path in self.gone and "refused" not in self.case["sections"]:
                    continue  # to hold it here would stand against its removal
                if path not in self.gone:  # or the scenario itself would hold it
                    self.scope[name.partition(".")[0]] = sys.modules[name.partition(".")[0]]
        exec(compile(self.text("live"), "<live>", "exec"), self.scope)

    def patch(self) -> Patch:
        """The patch from base to new, named TEST-1."""
        base = {path: text.encode() for path, text in self.files.items()}
        new = {**base, **{path: text.encode() for path, text in self.new.items()}}
        for path in self.gone:
            del new[path]
        made = local.make_patch(base, new)
        self.scope.update(patch=made, local=local, base_files=base, new_files=new)
        return made

    def run(self) -> None:
        """The whole scenario; raises Failed where it does not hold."""
        self.begin()
        check("was", self.text("was"), self.scope)
        if "either" in self.case["sections"]:
            self.must_be_right()
        elif "refused" in self.case["sections"]:
            self.must_refuse()
        else:
            self.must_apply()

    def must_be_right(self) -> None:
        """Either refused with nothing touched, or applied with everything as a fresh import of
        the new source.
        """
        try:
            local.plan(self.patch())
        except ZdpatchError:
            self.case["sections"]["refused"] = ""
            self.must_refuse()
        else:
            self.must_apply()

    def must_refuse(self) -> None:
        """Refused with the verdicts named, and nothing touched."""
        before, around = fingerprint(self.names), surroundings()
        try:
            patch = self.patch()
            plan = local.plan(patch)
            shown = plan.summary()
            self.scope["summary"] = shown
            local.apply(plan)
        except ZdpatchError as error:
            refusal = error
        else:
            raise Failed(f"applied, but must be refused: {shown}")
        if touched := difference(before, fingerprint(self.names)):
            raise Failed("refused, but touched: " + "\n".join(touched))
        if around != surroundings():
            raise Failed(f"refused, but left traces: {around}\n{surroundings()}")
        verdicts: tuple[Verdict, ...] = getattr(refusal, "verdicts", ())
        self._compare(refusal, verdicts)
        check("was after refusal", self.text("back") or self.text("was"), self.scope)

    def _compare(self, refusal: ZdpatchError, verdicts: tuple[Verdict, ...]) -> None:
        lines = [
            f"{verdict.path} {verdict.row} line {verdict.line}: {verdict.edit}: {verdict.reason}"
            for verdict in verdicts
        ]
        told = f"{refusal.code} {refusal.cause}\n" + "\n".join(lines)
        for line in self.text("refused").split("\n"):
            words = line.split()
            if not words:
                continue
            if words[0].startswith("ZDP-"):
                if refusal.code not in words[0].split("|"):
                    raise Failed(f"refused with another id than {words[0]}: {told}")
                continue
            paths, rows = words[0].split("|"), words[1].split("|")
            hits = [
                one
                for one in verdicts
                if one.row in rows and any(fnmatch(one.path, path) for path in paths)
            ]
            if not hits:
                raise Failed(f"no verdict {line!r} in: {told}")
            if not all(
                one.reason and one.remedy and (one.line > 0 or one.path.endswith(":"))
                for one in hits
            ):
                raise Failed(f"a verdict without reason, remedy or line: {hits}")

    def must_apply(self) -> None:
        """Applied, undone to the last object, applied again, undone again."""
        once = "once" in self.case["sections"]
        before, around = fingerprint(self.names), surroundings()
        patch = self.patch()
        plan = local.plan(patch)
        if touched := difference(before, fingerprint(self.names), state=not once):
            raise Failed("plan touched: " + "\n".join(touched))
        if around != surroundings() and not once:
            raise Failed(f"plan left traces: {around}\n{surroundings()}")
        self.scope["summary"] = plan.summary()
        self.scope["applied"] = local.apply(plan)
        if once:
            check("now", self.text("now"), self.scope)
        if "keep" in self.case["sections"]:
            return
        local.revert(patch.id)
        if touched := difference(before, fingerprint(self.names), state=not once):
            raise Failed("after revert not as before: " + "\n".join(touched))
        if once:
            check("back", self.text("back") or self.text("was"), self.scope)
            return
        check("was after revert", self.text("was"), self.scope)
        again = self.patch()
        self.scope["applied"] = local.apply(local.plan(again))
        check("now", self.text("now"), self.scope)
        local.revert(again.id)
        check("back", self.text("back") or self.text("was"), self.scope)


# -- the server ------------------------------------------------------------------------------------


def _report(case: dict[str, Any]) -> str:
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    try:
        Scenario(case).run()
    except Failed as error:
        return str(error)
    except ZdpatchError as error:
        told = "\n".join(str(one) for one in getattr(error, "verdicts", ()))
        return f"{error}\n{told}\n{traceback.format_exc()}"
    except BaseException:  # noqa: BLE001  # whatever it is, it is the report
        return traceback.format_exc()
    return ""


def _fork(case: dict[str, Any]) -> str:
    """The child's report, as JSON."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w") as out:
            failed = _report(case)
            out.write(json.dumps({"failed": failed, "refused": "refused" in case["sections"]}))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as source:
        told = source.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        why = f"the process died: wait status {status}, see its stderr\n{told}"
        return json.dumps({"failed": why, "refused": False})
    return told


def main() -> None:
    """Serve until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what scenarios print is not an answer
        for line in sys.stdin:
            answers.write(_fork(json.loads(line)) + "\n")


main()
