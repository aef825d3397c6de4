"""The program that was started is `__main__`: its functions are changed or the patch is
refused, never lost.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import sys

def answer():
    return 1

{main}
"""
MAIN = """
def main():
    from zdpatch.agent import local
    from zdpatch.patcher.errors import ZdpatchError
    base = open(__file__, "rb").read()
    new = base.replace(b"return 1\\n", b"return 2\\n")
    patch = local.make_patch({"app.py": base}, {"app.py": new})
    try:
        local.apply(local.plan(patch))
    except ZdpatchError as error:
        print("refused", error.code, answer())
        return
    print("applied", answer())
    local.revert(patch.id)
    print("reverted", answer())

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", [["app.py"], ["-m", "app"]])
def test_a_patch_of_the_started_program_is_never_lost(tmp_path: Path, how: list[str]) -> None:
    """A patch of the file that runs as `__main__` either works there or is refused; it never
    claims success.
    """
    (tmp_path / "app.py").write_text(APP.format(main=MAIN))
    done = subprocess.run(
        [sys.executable, *how],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    refused = len(lines) == 1 and lines[0].startswith("refused") and lines[0].endswith(" 1")
    assert refused or lines == ["applied 2", "reverted 1"], lines


def test_a_module_loaded_under_two_names(tmp_path: Path) -> None:
    """A file that is loaded as two modules runs new code in both, or the patch is refused."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "mod.py").write_text("def f():\n    return 1\n")
    program = """
import sys
sys.path[:0] = ["pkg", "."]
import mod, pkg.mod
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError
base = {"pkg/__init__.py": b"", "pkg/mod.py": b"def f():\\n    return 1\\n"}
new = {**base, "pkg/mod.py": b"def f():\\n    return 2\\n"}
patch = local.make_patch(base, new)
try:
    plan = local.plan(patch)
    local.apply(plan)
except ZdpatchError as error:
    print("refused", pkg.mod.f(), mod.f())
else:
    print("applied", pkg.mod.f(), mod.f(), "mod" in " ".join(plan.summary().notices))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.split()
    # The second copy is not the patch's module; when it keeps old code, the plan has to say so.
    right = (["refused", "1", "1"], ["applied", "2", "2", *told[3:]], ["applied", "2", "1", "True"])
    assert told in right


LIBRARY = 'VERSION = "3.1.5 x"\n'
USER = """
import lib
kept = []

def push():
    from zdpatch.agent import local
    from zdpatch.patcher.errors import ZdpatchError
    base, new = {{"lib.py": b'VERSION = "3.1.5 x"'}}, {{"lib.py": b'VERSION = "3.1.6 x"'}}
    try:
        plan = local.plan(local.make_patch(base, new))
        local.apply(plan)
    except ZdpatchError as error:
        print("refused", [(each.path, each.line) for each in error.verdicts if each.row != "A"])
        return
    print("applied", list(plan.notices))

if __name__ == "__main__":
{block}
"""


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (["kept.append(lib.VERSION)", "push()"], ["refused [('__main__', 18)]"]),
        (["push()", "kept.append(lib.VERSION)", "print(kept)"], ["applied []", "['3.1.6 x']"]),
        (["X = lib.VERSION + '!'", "push()", "print(X)"], ["applied []", "3.1.6 x!"]),
        (
            ["print(lib.VERSION)", "push()"],
            ["3.1.5 x", "applied ['__main__ (line 18) showed the old lib:VERSION']"],
        ),
        (["(lambda _: push())(lib.VERSION)"], ["refused [('__main__', 18)]"]),
    ],
)
def test_what_the_started_program_read(tmp_path: Path, block: list[str], told: list[str]) -> None:
    """What stands under `if __name__ == "__main__"` has run in the program that was started, as far
    as it has come.
    """
    (tmp_path / "lib.py").write_text(LIBRARY)
    text = "\n".join(f"    {line}" for line in block)
    (tmp_path / "app.py").write_text(USER.format(block=text))
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == told, done.stderr
