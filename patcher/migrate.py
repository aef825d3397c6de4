"""State goes from its old shape to the new one with the code, or everything stays as it was.

Hooks are functions of a module in the bundle. In order: `prepare` (nothing has changed yet),
`migrate` and, for each object, `upgrade` (give what shall be; it goes in with the code, in one
flip),
`complete` (does what statements of the new source do), `verify`. What fails, or takes too long,
undoes all before it. A rollback asks `undo_migrate` and `downgrade`, and after its flip
`undo_complete` and `undo_prepare`.
"""

from __future__ import annotations

import sys
import traceback
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from zdpatch.patcher import overlay
from zdpatch.patcher.errors import ProcessError, Refused, Verdict, ZdpatchError
from zdpatch.patcher.state import State, lacking
from zdpatch.patcher.swap import Undo, commit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from zdpatch.patcher.plan import Plan
    from zdpatch.patcher.slots import Step

    Limited = Callable[[Callable[[], None], float], None]

_TRIES: Final = 3
_LINES: Final = 20
_REMEDY: Final = "mend the hooks, or replace the worker"


def unlimited(call: Callable[[], None], limit_s: float) -> None:
    """Call it, however long it takes."""
    del limit_s
    call()


class Migration:
    """The hooks of one plan. `limited` calls a function and raises TimeoutError when it takes
    longer than so many seconds.
    """

    def __init__(self, plan: Plan, limited: Limited) -> None:
        assert plan.patch.hooks is not None
        self.hooks = plan.patch.hooks
        self.patch = plan.patch.id
        self.needs = plan.carried
        self.state = State(self.hooks.paths)
        self._limited = limited
        self._module = ModuleType(f"zdpatch_hooks_{self.patch.replace('-', '_')}")
        self._begun: list[str] = []
        self._given: frozenset[str] = frozenset()
        self._objects: set[tuple[int, object]] = set()

    # ------------------------------------------------------------ in

    def load(self) -> None:
        """Run the module of the hooks. Raises Refused ZDP-218."""
        name = f"<hooks of {self.patch}>"
        overlay.remember(name, self.hooks.source)

        def run() -> None:
            code = compile(self.hooks.source, name, "exec", dont_inherit=True, optimize=0)
            exec(code, vars(self._module))  # noqa: S102 - signed, as the code of the patch

        self._guarded("module", run)
        for function in sorted(self.hooks.functions):
            if not callable(vars(self._module).get(function)):
                raise self._refused(function, "the module does not define it")

    def flip(self, steps: Sequence[Step], flip: Callable[[Sequence[Step]], Undo]) -> Undo:
        """Steps and what hooks give, in one instant. Raises as `flip`, and Refused ZDP-218; then
        nothing was changed.
        """
        self._run("prepare")
        written: list[str] = []
        for _ in range(_TRIES):
            self.state = self.state.again()
            self._run("migrate")
            self._each("upgrade")
            self._check_promises(steps)
            undo = flip(self.state.keep_promises(steps))
            if not (written := self.state.written()):
                self._given = self.state.given
                self._objects = {(id(s.target), s.name) for s in self.state.of_objects()}
                return undo
            undo.revert()
        raise self._refused("migrate", "; ".join(written) + ", each time that it was carried over")

    def _check_promises(self, steps: Sequence[Step]) -> None:
        try:
            self.state.keep_promises(steps)
        except KeyError as error:
            raise self._refused("migrate", f"it gives no value for {error.args[0]}") from None

    def finish(self, undos: list[Undo]) -> None:
        """What is left to do on the new side: objects that were made meanwhile, statements with an
        effect, a last look. What it commits is added to `undos`. Raises Refused ZDP-218; the caller
        takes all of it back.
        """
        undos += self._stragglers("upgrade")
        self._run("complete")
        for need in self.needs:
            if number := lacking(need):
                names = ", ".join(sorted(need.names))
                why = f"{number} live objects of {need.path} have no {names}"
                raise self._refused("upgrade", why)
        self._run("verify")
        self.state = self.state.again()  # which keeps no object alive

    def _stragglers(self, name: str) -> list[Undo]:
        """Objects that old code made between the first look and the flip."""
        self.state = self.state.later()
        self._each(name)
        steps = self.state.of_objects()
        self._objects |= {(id(step.target), step.name) for step in steps}
        return [commit(steps)] if steps else []

    # ------------------------------------------------------------ out

    def way_back(self) -> list[Step]:
        """What state shall be for old code. Raises ProcessError ZDP-218, and nothing was done."""
        self.state = self.state.again()
        self._run("undo_migrate")
        self._each("downgrade")
        if missing := sorted(self._given - self.state.given):
            raise self._refused("undo_migrate", f"it gives no value for {', '.join(missing)}")
        self._objects = {(id(step.target), step.name) for step in self.state.of_objects()}
        return self.state.keep_promises(())

    def after_undo(self) -> list[str]:
        """Old code is back: what else hooks have done goes too. What went wrong, as sentences."""
        wrong: list[str] = []
        wrong += self._tried(partial(self._stragglers, "downgrade"))
        for name in ("complete", "prepare"):
            if name in self._begun:
                wrong += self._tried(partial(self._run, f"undo_{name}"))
        self._begun.clear()
        self.state = self.state.again()
        return wrong

    def _tried(self, call: Callable[[], object]) -> list[str]:
        try:
            call()
        except ZdpatchError as error:
            return [error.cause]
        return []

    def check_back(self, undo: Undo) -> None:
        """Raises ProcessError ZDP-218, the flip undone, when state was written to meanwhile."""
        if written := self.state.written():
            undo.revert()
            raise self._refused("undo_migrate", "; ".join(written) + " while it was carried back")

    def lasting(self, undos: Sequence[Undo]) -> list[Undo]:
        """Without steps about objects, which would keep them alive: hooks carry those back that
        live then.
        """
        own = self._objects
        return [lasting(undo, own) for undo in undos]

    # ------------------------------------------------------------ hooks

    def _run(self, name: str) -> None:
        if name not in self.hooks.functions:
            return
        self._begun.append(name)
        function: Any = vars(self._module).get(name)
        self._guarded(name, partial(function, self.state))

    def _each(self, name: str) -> None:
        """The hook for each object of the classes that are carried over."""
        if name not in self.hooks.functions:
            return
        found = self.state.objects(self.hooks.upgrades)
        function: Any = vars(self._module).get(name)

        def every() -> None:
            for each in found:
                function(self.state, each)

        if found:
            self._guarded(name, every)

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            self._limited(call, self.hooks.timeout_s)
        except TimeoutError:
            self.state.close()
            why = f"it did not end within {self.hooks.timeout_s} s"
            raise self._refused(name, why) from None
        except ZdpatchError:
            raise
        except BaseException as error:
            told = traceback.TracebackException.from_exception(error, compact=True)
            own = [frame for frame in told.stack if frame.filename.startswith("<")]
            told.stack = traceback.StackSummary.from_list(own)
            raise self._refused(name, "".join(told.format(chain=False))) from error

    def _refused(self, name: str, why: str) -> ZdpatchError:
        lines = [f"| {_printable(line)}" for line in why.splitlines()[-_LINES:]]
        cause = "\n".join([f"the hook {name} of {self.patch} fails", *lines])
        if name == "downgrade" or name.startswith("undo_"):
            return ProcessError("ZDP-218", cause, next=_REMEDY)
        verdict = Verdict(f"hooks:{name}", 1, "migration", "M", "it fails", _REMEDY)
        return Refused("ZDP-218", cause, (verdict,), next=_REMEDY)


def hooks_of(plan: Plan, limited: Limited) -> Migration | None:
    """The hooks that run when a plan is applied: none where nothing of what they are about is
    loaded.
    """
    hooks = plan.patch.hooks
    if hooks is None:
        return None
    names = {path.partition(":")[0] for path in hooks.paths}
    names = names or {change.name for change in plan.patch.changes}
    return Migration(plan, limited) if any(map(sys.modules.get, names)) else None


def flip_with(
    migration: Migration | None, steps: Sequence[Step], flip: Callable[[Sequence[Step]], Undo]
) -> Undo:
    """Flip, with what hooks give. Raises as `flip` and Refused ZDP-218, nothing changed."""
    if migration is None:
        return flip(steps)
    try:
        migration.load()
        return migration.flip(steps, flip)
    except ZdpatchError as error:
        error.cause = "\n".join([error.cause, *migration.after_undo()])
        raise


def not_undone(patch_id: str, error: ZdpatchError, failure: ZdpatchError) -> ProcessError:
    """Neither in nor out."""
    return ProcessError(
        "ZDP-307",
        f"{error.cause}\nand could not be taken out: {failure.cause}",
        state=f"{patch_id} is in this process, with state that is not as it should be: replace it.",
        next="replace the worker",
    )


def lasting(undo: Undo, objects: Collection[tuple[int, object]]) -> Undo:
    """The same, of slots that are not of `objects`."""
    kept = Undo(tuple(s for s in undo.steps if (id(s.target), s.name) not in objects))
    kept.committed, kept.flip_us = undo.committed, undo.flip_us
    return kept


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)[:300]
