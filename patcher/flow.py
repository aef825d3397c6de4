"""Where control can go in a code object, handlers included; read from its instructions alone."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import CodeType

LOOP_OPCODES: Final = frozenset(
    code
    for name, code in dis.opmap.items()
    if "JUMP_BACKWARD" in name and not name.endswith("NO_INTERRUPT")
)
_RETURNS: Final = frozenset({"RETURN_VALUE", "RETURN_CONST"})
_ENDS: Final = _RETURNS | {
    *("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RAISE_VARARGS", "RERAISE")
}


def is_jump(instruction: dis.Instruction) -> bool:
    """Whether its argument says where control may go."""
    return instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs


def exception_entries(code: CodeType) -> list[tuple[int, int, int, int]]:
    """(first, end, handler, depth and lasti) of the exception table, offsets in bytes.

    A number has six bits a byte, high ones first; 64 says that more follow.
    """
    numbers: list[int] = []
    value = 0
    for byte in code.co_exceptiontable:
        value = value << 6 | byte & 63
        if not byte & 64:
            numbers.append(value)
            value = 0
    return [
        (2 * start, 2 * (start + length), 2 * target, depth)
        for start, length, target, depth in zip(*[iter(numbers)] * 4, strict=True)
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """Instructions of a code object, and for each the indices of those that may follow it."""

    instructions: list[dis.Instruction]
    edges: list[list[int]]

    @classmethod
    def of(cls, code: CodeType) -> Flow:
        """The flow of `code`, also of code that is being monitored."""
        instructions = list(dis.get_instructions(code))
        index = {instruction.offset: at for at, instruction in enumerate(instructions)}
        edges: list[list[int]] = [
            [] if i.opname in _ENDS or at + 1 == len(instructions) else [at + 1]
            for at, i in enumerate(instructions)
        ]
        for at, instruction in enumerate(instructions):
            if is_jump(instruction):
                edges[at].append(index[instruction.argval])
        for start, end, handler, _ in exception_entries(code):
            for at, instruction in enumerate(instructions):
                if start <= instruction.offset < end:
                    edges[at].append(index[handler])
        return cls(instructions, edges)

    def loop_heads(self) -> list[dis.Instruction]:
        """The instructions that loops jump back to."""
        return [head for head, _ in self.loops()]

    def loops(self) -> list[tuple[dis.Instruction, dis.Instruction]]:
        """(the instruction that it jumps back to, the jump) of each loop.

        A jump back alone is no loop: handlers, which stand at the end, jump back to where the
        body goes on. It is one when there is no way to it but through its target.
        """
        offsets = {i.offset: at for at, i in enumerate(self.instructions)}
        back = [
            (at, offsets[i.argval])
            for at, i in enumerate(self.instructions)
            if i.opcode in LOOP_OPCODES
        ]
        return [
            (self.instructions[to], self.instructions[at])
            for at, to in back
            if at not in self._reachable(without=to)
        ]

    def _reachable(self, without: int) -> set[int]:
        seen = {without}
        pending = [] if without == 0 else [0]
        while pending:
            at = pending.pop()
            if at not in seen:
                seen.add(at)
                pending += self.edges[at]
        return seen - {without}

    def always(self) -> set[int]:
        """Indices of the instructions that every execution which returns has passed.

        One way to a return is found. An instruction on it can be left out exactly if some detour
        leaves the way before it and comes back behind it (or returns elsewhere).
        """
        way = self._way_out()
        place = {at: number for number, at in enumerate(way)}
        end = len(way)
        always: set[int] = set()
        seen: set[int] = set()
        farthest = 0
        for number, start in enumerate(way):
            if farthest <= number:
                always.add(start)
            pending = [start]
            while pending:
                at = pending.pop()
                if at != start and self.instructions[at].opname in _RETURNS:
                    farthest = end
                for to in self.edges[at]:
                    if to in place:
                        farthest = max(farthest, place[to])
                    elif to not in seen:
                        seen.add(to)
                        pending.append(to)
        return always

    def _way_out(self) -> list[int]:
        """A shortest way from the first instruction to a return; empty if nothing returns."""
        came_from: dict[int, int] = {0: -1}
        pending = [0]
        for at in pending:
            if self.instructions[at].opname in _RETURNS:
                way: list[int] = []
                while at >= 0:
                    way.append(at)
                    at = came_from[at]  # noqa: PLW2901 (walking back)
                return way[::-1]
            for to in self.edges[at]:
                if to not in came_from:
                    came_from[to] = at
                    pending.append(to)
        return []
