"""What really runs is told by its objects: no disk, no tracer and no mock deceives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHILD = Path(__file__).parent / "identity_child.py"
GOES_IN = [
    *("usual", "idle hook", "pyc", "zip", "file replaced", "file gone", "settrace", "setprofile"),
    *("coverage-c", "coverage-py", "coverage-monitoring", "monitoring"),
]
REPLACED = {
    "mock": ("m:f", "replaced at run time by an object of type MagicMock"),
    "mock with spec": ("m:f", "replaced at run time"),
    "mocked class": ("m:C", "replaced at run time by an object of type MagicMock"),
    "mocked method": ("m:C.m", "replaced at run time by an object of type MagicMock"),
    "function": ("m:f", "replaced at run time"),
    "method": ("m:C.m", "replaced at run time"),
    "wrapper": ("m:g", "replaced at run time by an object of type Proxy"),
    "closure": ("m:g", "replaced at run time"),
    "wrapped method": ("m:C.n", "replaced at run time by an object of type Proxy"),
    "compiled function": ("m:f", "is compiled code here (builtin_function_or_method)"),
    "code": ("m:f", "is gone"),
}


def ask(way: str, *flags: str, adopt: str = "", replace: str = "") -> dict[str, Any]:
    """What became of the patch in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *flags, str(CHILD), way, adopt, replace],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("flag", ["", "-O", "-OO"])
@pytest.mark.parametrize("way", GOES_IN)
def test_goes_in(way: str, flag: str) -> None:
    """However it was loaded or is being watched: what runs is the base, so the patch goes in."""
    assert ask(way, *flag.split()) == {"in": [20, 20], "back": [2, 2], "same": True}


@pytest.mark.parametrize("way", sorted(REPLACED))
def test_what_was_replaced_is_named(way: str) -> None:
    """Each thing that somebody replaced at run time is named by its path, and refused."""
    path, reason = REPLACED[way]
    answer = ask(way)
    assert answer["code"] == "ZDP-201"
    assert answer["verdicts"][0][:2] == [path, "X"]
    if way != "code":
        assert [each[0] for each in answer["verdicts"]] == [path]
        assert reason in answer["verdicts"][0][2]


def test_compiled_module() -> None:
    """A compiled module is refused for what it is, although its source lies beside it."""
    answer = ask("extension")
    assert answer["code"] == "ZDP-202"
    assert answer["verdicts"][0][:2] == ["m:", "R"]
    assert "compiled module (m." in answer["cause"]


@pytest.mark.parametrize("way", ["pytest", "hook"])
def test_hooks_that_change_code(way: str) -> None:
    """Code that a hook has changed on its way in is not the base; the hook is named."""
    answer = ask(way)
    assert answer["code"] == "ZDP-201"
    assert answer["verdicts"][0][0] == "m:f"
    assert "was loaded by" in answer["cause"]
    assert "may change code" in answer["cause"]


ADOPTED = {
    "mock": "m:f",
    "mock with spec": "m:f",
    "mocked method": "m:C.m",
    "function": "m:f",
    "method": "m:C.m",
    "compiled function": "m:f",
}


def test_the_remedy_names_what_adopts() -> None:
    """Of what was replaced; other drift cannot be adopted so."""
    (said,) = ask("mock")["say"]
    assert "--adopt m:f" in said
    assert "--replace m:f" in said


@pytest.mark.parametrize("way", sorted(ADOPTED))
def test_adopted(way: str) -> None:
    """What the operator names is left alone, object by object, and the rest goes in."""
    answer = ask(way, adopt=ADOPTED[way])
    assert (answer["in"], answer["back"], answer["same"]) == ([20, 20], [2, 2], True)
    assert len(answer["notices"]) == 1
    assert answer["notices"][0].startswith(f"{ADOPTED[way]} is left alone: ")


def test_only_what_is_named_is_adopted() -> None:
    """Another path stands against the patch as before; one that has not drifted, or is nowhere, is
    told.
    """
    assert ask("mock", adopt="m:g")["verdicts"][0][0] == "m:f"
    for path in ("m:f", "m:nowhere"):
        assert ask("usual", adopt=path) == {
            "in": [20, 20],
            "back": [2, 2],
            "same": True,
            "notices": [f"{path} was not replaced here, or the patch has no such module"],
        }


@pytest.mark.parametrize(
    ("way", "path"), [("wrapper", "m:g"), ("closure round g", "m:g"), ("wrapped method", "m:C.n")]
)
def test_adopted_wrapper(way: str, path: str) -> None:
    """A wrapper that calls what the patch changes stays, and what it wraps is patched."""
    answer = ask(way, adopt=path)
    assert (answer["in"], answer["back"], answer["same"]) == ([20, 20], [2, 2], True)
    assert answer["notices"][0].endswith("what it wraps is patched")


@pytest.mark.parametrize(
    ("way", "path"),
    [("mocked g", "m:g"), ("mocked method n", "m:C.n"), ("gone", "m:g"), ("mocked class", "m:C")],
)
def test_adopted_is_what_changes(way: str, path: str) -> None:
    """What the patch changes cannot be left alone: the two ways out are said."""
    answer = ask(way, adopt=path)
    assert answer["code"] == "ZDP-202"
    assert any(f"--replace {path}" in each[2] for each in answer["verdicts"])


@pytest.mark.parametrize(
    ("way", "path", "back"),
    [
        ("mocked g", "m:g", ["MagicMock", 2]),
        ("mocked method n", "m:C.n", [2, "MagicMock"]),
        ("mocked class", "m:C", [2, "MagicMock"]),
        ("wrapper", "m:g", [2, 2]),
        ("mock", "m:f", [2, 2]),
    ],
)
def test_replaced(way: str, path: str, back: list[object]) -> None:
    """The very function of the base is put back and patched; an undo brings the other again."""
    answer = ask(way, replace=path)
    assert answer["in"] == [20, 20]
    assert answer["back"] == back
    assert answer["same"]
    assert answer["notices"][0].startswith(f"{path} is put back: ")


def test_nothing_to_put_back() -> None:
    """A function that nobody holds any more cannot be put back."""
    answer = ask("gone", replace="m:g")
    assert answer["code"] == "ZDP-202"
    assert ["m:g", "X", "what it replaced is gone"] in answer["verdicts"]
