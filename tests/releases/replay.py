"""Real releases go into live processes: `python -m tests.releases.replay [WORDS]` (`make replay`).

WORDS choose the pairs whose name has one of them. What was run before is taken from the cache, so
an interrupted replay goes on where it was. Ends with 1 when a row is not as expected.
"""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.releases.judging import Row, judge, judge_others
from tests.releases.pairs import CACHE, all_pairs
from tests.releases.reporting import line, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.releases.pairs import Pair


def main(words: list[str], jobs: int = 1) -> int:
    """Replay the pairs that `words` choose, `jobs` at once; the exit status."""
    pairs = {
        name: pair
        for name, pair in all_pairs().items()
        if not words or any(word in name for word in words)
    }
    if not pairs:
        print(f"no release has {' or '.join(words)} in its name")
        return 2
    rows: dict[str, Row] = {}
    done = 0
    started = time.monotonic()

    def one(name: str, judging: Callable[[str, Pair], Row]) -> None:
        nonlocal done
        rows[name] = rows.get(name, {}) | judging(name, pairs[name])
        done += 1
        spent = time.monotonic() - started
        print(f"[{done}/{2 * len(pairs)}, {spent:.0f} s] {line(name, rows[name])}", flush=True)
        write(CACHE, {known: rows[known] for known in pairs if known in rows})

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, pairs, [_row] * len(pairs)))
        list(pool.map(one, pairs, [_others] * len(pairs)))
    wrong = [name for name in pairs if rows[name]["wrong"]]
    print(f"report: {CACHE / 'report.md'}")
    if wrong:
        print(f"not as expected: {', '.join(wrong)}")
    return 1 if wrong else 0


def _row(name: str, pair: Pair) -> Row:
    """The row of one pair; a release that cannot be fetched has one too."""

    try:
        return judge(pair, lambda step: _say(name, step))
    except subprocess.CalledProcessError as error:
        cause = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        words = f"{' '.join(map(str, error.cmd))}: {cause[-1] if cause else error.returncode}"
        return {"release": pair.new, "outcome": "not fetched", "wrong": [words]}


def _others(name: str, pair: Pair) -> Row:
    """What other ways do with it, where it could be fetched."""
    fetched = (pair.folder / "ready").exists()
    return judge_others(pair, lambda step: _say(name, step)) if fetched else {}


def _say(name: str, step: str) -> None:
    print(f"    {name}: {step}", flush=True)


if __name__ == "__main__":
    number = [word.removeprefix("-j") for word in sys.argv[1:] if word.startswith("-j")]
    chosen = [word for word in sys.argv[1:] if not word.startswith("-j")]
    sys.exit(main(chosen, int(number[0]) if number else 1))
