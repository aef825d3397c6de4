"""Runs scenarios, each in a fork of this process: no scenario can see another, and none pays for
the imports.

A program, not a module: reads one JSON scenario a line on stdin, answers one JSON report a line
on stdout. The order of one scenario: import the base, make live state, check `was`; plan (which
must touch nothing); apply, revert, and every object must be the one it was before; apply again,
check `now`; revert, check `back`. A scenario with `refused` must be refused with those verdicts
and nothing touched; with `breaks`, the edit is then applied all the same, and what it says must be
so, which it was not before or would not be in a fresh process.

Arguments are names of modules to import before the forks: frameworks, which take long.
"""

from __future__ import annotations

import ast
import faulthandler
import importlib
import inspect
import json
import os
import signal
import sys
import tempfile
import textwrap
import traceback
import types
import zlib
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engine.checks import Failed, check, raises
from tests.engine.controls import apply_anyway, expressions, fresh_truths, truths
from tests.engine.fingerprints import difference, fingerprint, surroundings
from tests.engine.likeness import called, same_as_fresh
from zdpatch.agent import local
from zdpatch.patcher.errors import Verdict, ZdpatchError

if TYPE_CHECKING:
    from zdpatch.patcher.source import Patch

LIMIT_S = 150
for needed in ["asyncio", *sys.argv[1:]]:  # a dozen scenarios use asyncio
    importlib.import_module(needed)


def _taken_out(files: dict[str, str]) -> dict[str, bytes]:
    """Files that are no modules, compressed: who holds their content stands against a patch."""
    names = [path for path in files if not path.endswith(".py")]
    return {path: zlib.compress(files.pop(path).encode()) for path in names}


# -- one scenario ----------------------------------------------------------------------------------


class Scenario:
    """One scenario in its own process: files in a fresh directory, modules imported, live state
    made.
    """

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.data = {side: _taken_out(case[side]) for side in ("base", "new")}
        self.files: dict[str, str] = case["base"]
        self.new: dict[str, str] = case["new"]
        self.gone: list[str] = case["gone"]
        self.outside: dict[str, str] = case["outside"]
        self.lazy: list[str] = case["lazy"]
        sources = [*self.files, *self.new, *self.outside]
        self.names = [self._name(path) for path in sources]
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
        for path, packed in self.data["base"].items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(zlib.decompress(packed))
        sys.path.insert(0, str(root))
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        sys.modules["scene"] = self.module
        self.scope.update(
            raises=raises,
            called=called,
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
            new.pop(path, None)
        self.scope.update(local=local, base_files=base, new_files={**new})
        before, after = (
            {path: zlib.decompress(packed) for path, packed in self.data[side].items()}
            for side in ("base", "new")
        )
        after = {path: text for path, text in (before | after).items() if path not in self.gone}
        made = local.make_patch({**base, **before}, {**new, **after})
        self.scope.update(patch=made)
        return made

    def run(self) -> None:
        """The whole scenario; raises Failed where it does not hold."""
        fresh = fresh_truths(self.begin_fresh, self.text("breaks")) if self.text("breaks") else []
        self.begin()
        check("was", self.text("was"), self.scope)
        if "either" in self.case["sections"]:
            self.must_be_right()
        elif "refused" in self.case["sections"]:
            self.must_refuse()
            if "breaks" in self.case["sections"]:
                self.must_break(fresh)
        else:
            self.must_apply()

    def begin_fresh(self) -> dict[str, Any]:
        """What lives, made by the new source."""
        files, data = self.files | self.new, self.data["base"] | self.data["new"]
        self.files = {path: text for path, text in files.items() if path not in self.gone}
        self.data["base"] = {path: text for path, text in data.items() if path not in self.gone}
        self.begin()
        return self.scope

    def must_break(self, fresh: list[bool]) -> None:
        """Applied all the same, the edit does what the refusal is for."""
        text, before = self.text("breaks"), truths(self.text("breaks"), self.scope)
        self.scope["anyway"] = self._apply_anyway
        exec(compile(self.text("control") or "anyway()", "<control>", "exec"), self.scope)
        check("breaks", text, self.scope)
        for number, node in enumerate(expressions(text)):
            if before[number] and (not fresh or fresh[number]):
                raise Failed(f"breaks: {ast.unparse(node)}: is so without the edit, too")

    def _apply_anyway(self) -> dict[str, types.ModuleType]:
        """Data files are replaced, modules changed by name."""
        for path, packed in self.data["new"].items():
            Path(self.scope["root"], path).write_bytes(zlib.decompress(packed))
        base, new = (
            {self._name(path): text for path, text in files.items()}
            for files in (self.files, self.new)
        )
        return apply_anyway(base, new)

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
            if self.text("between"):
                self.between()
                before, around = fingerprint(self.names), surroundings()
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
                if one.row in rows
                and any(fnmatch(one.path, path) for path in paths)
                and " ".join(words[2:]) in one.reason
            ]
            if not hits:
                raise Failed(f"no verdict {line!r} in: {told}")
            if not all(one.reason and one.remedy and self._stands(one) for one in hits):
                raise Failed(f"a verdict without reason, remedy or its line: {hits}")

    def _stands(self, verdict: Verdict) -> bool:
        """Whether the line of a verdict is one where its definition begins, or which it has."""
        module, _, name = verdict.path.partition(":")
        word = name.replace("<locals>", "").split(".")[-1].split(" ")[0].strip("()[]<>`'")
        files = [*self.new.items(), *self.files.items(), *self.outside.items()]
        for text in [text for path, text in files if self._name(path) == module]:
            first = verdict.line - 1
            lines = text.split("\n")[
                max(0, first - 20 * (verdict.edit in {"in flight", "kept"})) : first + 20
            ]
            if verdict.line > 0 and any(word in line for line in lines):
                return True
        return verdict.path.endswith(":") or verdict.path in self.data["base"]

    def between(self) -> None:
        """What the program does between a plan and its apply."""
        exec(compile(self.text("between"), "<between>", "exec"), self.scope)

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
        if self.text("between"):
            self.between()
            before = fingerprint(self.names)
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
    del sys.path[0]  # the folder that `-m` was started in
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what scenarios print is not an answer
        for line in sys.stdin:
            answers.write(_fork(json.loads(line)) + "\n")


main()
