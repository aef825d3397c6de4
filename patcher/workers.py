"""A function that takes work from a queue in a loop of its own works for nobody in particular.

A request often starts such a thread or task without meaning to: the first one that needs a pool
starts the pool's worker. What it starts then belongs to whoever gives it work next. The same is
true of a loop that cannot end.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.flow import Flow

if TYPE_CHECKING:
    import dis

_TAKES: Final = ("get", "dequeue", "accept")
_HOW: Final = (("block",), ("timeout",), ("block", "timeout"), ("timeout", "block"))
_LOADS: Final = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_FAST", "LOAD_DEREF")
_FILLS: Final = ("PUSH_NULL", "PRECALL", "EXTENDED_ARG", "NOP")
_NAMES_ARGUMENTS: Final = ("KW_NAMES", "LOAD_CONST")
_ITERATES: Final = ("FOR_ITER", "GET_ANEXT")  # such loops end when there is no more to iterate over
_RETURNS: Final = ("RETURN_VALUE", "RETURN_CONST")
_NEAR: Final = 10  # instructions


def is_worker(call: object) -> bool:
    """Whether calling this is a loop that takes work: `while`, or `iter(q.get, ...)`; or endless.

    False for what is no function of Python's.
    """
    while True:
        if isinstance(call, functools.partial):
            call = call.func
        elif isinstance(call, MethodType):
            call = call.__func__
        else:
            break
    return isinstance(call, FunctionType) and is_worker_code(call.__code__)


@functools.lru_cache(maxsize=1024)
def is_worker_code(code: CodeType) -> bool:
    """The same of code: also of a generator's, or a coroutine's."""
    flow = Flow.of(code)
    steps, edges = flow.instructions, _own_edges(flow)
    places = range(len(steps))
    if any(_takes(code, steps, at) and _comes_again(steps, edges, at) for at in places):
        return True
    if _iterates_over_takes(steps):
        return True
    # the compiler leaves out what cannot be reached: no return is left of an endless loop
    returns = any(each.opname in _RETURNS for each in steps)
    return not returns and any(_comes_again(steps, edges, at) for at in places)


def _own_edges(flow: Flow) -> list[list[int]]:
    """Without the loop that an `await` is made of."""
    edges = [list(each) for each in flow.edges]
    for at, step in enumerate(flow.instructions):
        before = flow.instructions[at - 1].opname
        if step.opname == "JUMP_BACKWARD_NO_INTERRUPT" and before == "RESUME":
            edges[at].clear()
    return edges


def _comes_again(steps: list[dis.Instruction], edges: list[list[int]], place: int) -> bool:
    """Whether it may run twice without an iteration that could come to an end."""
    reached: set[int] = set()
    ahead = [place]
    while ahead:
        for each in edges[ahead.pop()]:
            if each == place:
                return True
            if each not in reached and steps[each].opname not in _ITERATES:
                reached.add(each)
                ahead.append(each)
    return False


def _takes(code: CodeType, steps: list[dis.Instruction], place: int) -> bool:
    """Whether something is taken from a queue here: a `dict.get` has a key."""
    if not _is_named_so(steps[place]):
        return False
    near = [each for each in steps[place + 1 : place + _NEAR] if each.opname not in _FILLS][:4]
    if steps[place].argval != "get" or not near or near[0].argval is True:
        return True
    if near[0].opname == "CALL" and near[0].arg == 0:
        return True
    named = [code.co_consts[each.arg or 0] for each in near if each.opname in _NAMES_ARGUMENTS]
    return any(each in _HOW for each in named)


def _iterates_over_takes(steps: list[dis.Instruction]) -> bool:
    """`for job in iter(queue.get, None)`."""
    for place, step in enumerate(steps):
        near = steps[max(0, place - _NEAR) : place]
        if step.opname == "FOR_ITER" and any(each.argval == "iter" for each in near):
            return any(_is_named_so(each) for each in near)
    return False


def _is_named_so(step: dis.Instruction) -> bool:
    return step.opname.startswith(_LOADS) and step.argval in _TAKES
