"""The same inputs give the same bytes; what varies is said, and what is unsafe is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli.builder import build_time, default_id, last_second, provenance, take_seq
from zdpatch.cli.bundlefile import read_bundle
from zdpatch.patcher.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli, Ran

EPOCH = "1700000000"


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """`old` and `new`: one function and one constant change, in a way that can go in place."""
    write_tree(tmp_path / "old", "RATE = 2\n\n\ndef price(x):\n    return x\n")
    write_tree(tmp_path / "new", "RATE = 3\n\n\ndef price(x):\n    return x * RATE\n")
    return tmp_path


def write_tree(root: Path, cart: str) -> None:
    """An import root with `shop.cart`."""
    package = root / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cart.py").write_text(cart)


@pytest.fixture
def build(cli: Cli, trees: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Runs `build` from old to new into `fix.zdp`."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITLAB_CI", raising=False)

    def run(*more: str) -> Ran:
        ends = ("--from", trees / "old", "--to", trees / "new", "--app", "shop")
        return cli("build", *ends, "-o", trees / "fix.zdp", *more)

    return run


if TYPE_CHECKING:
    from collections.abc import Callable

    Build = Callable[..., Ran]


def test_build(build: Build, trees: Path) -> None:
    """The bundle holds both sources of the changed module, and the manifest says where from."""
    ran = build("--fixes", "CVE-2026-2,CVE-2026-1", "--label", "zone=a", "--json")
    assert ran.code == 0
    assert ran.json["schema"] == "zdpatch.build/v1"
    assert ran.json["in_place"] is True
    assert {verdict["row"] for verdict in ran.json["verdicts"]} == {"A"}
    manifest = read_bundle(trees / "fix.zdp").manifest
    assert [entry.name for entry in manifest.modules] == ["shop.cart"]
    assert manifest.fixes == ["CVE-2026-1", "CVE-2026-2"]
    assert manifest.target.labels == {"zone": "a"}
    assert manifest.created == int(EPOCH)
    assert manifest.not_after == int(EPOCH) + 30 * 86400
    assert manifest.origin.base == "directory"


def test_verdicts_are_progress(build: Build) -> None:
    """Edit by edit goes to stderr, what was written to stdout."""
    ran = build()
    assert "in place  shop.cart:price" in ran.err
    assert "2 edits: 2 in place" in ran.out
    assert "zdpatch sign" in ran.out


def test_same_inputs_same_bytes(build: Build, trees: Path) -> None:
    """Two builds with the same number are the same, byte for byte."""
    build("--seq", "4")
    first = (trees / "fix.zdp").read_bytes()
    build("--seq", "4")
    assert (trees / "fix.zdp").read_bytes() == first


def test_same_bytes_on_every_python(cli: Cli, trees: Path) -> None:
    """A build in a process with another hash seed gives the same bytes."""
    made: list[bytes] = []
    for seed in ("1", "2"):
        ran = cli.process(
            *("build", "--from", "old", "--to", "new", "--app", "shop", "--seq", "4"),
            *("-o", "fix.zdp"),
            cwd=trees,
            SOURCE_DATE_EPOCH=EPOCH,
            PYTHONHASHSEED=seed,
        )
        assert ran.code == 0, ran.err
        made.append((trees / "fix.zdp").read_bytes())
    assert made[0] == made[1]


def test_seq_rises(build: Build, home: Path) -> None:
    """Each build has a higher number; --seq overrides, and the next goes on from there."""
    numbers = [build("--json", *more).json["seq"] for more in ((), (), ("--seq", "9"), ())]
    assert numbers == [1, 2, 9, 10]
    assert json.loads((home / "builder.json").read_bytes())["seq"] == {"shop": 10}


def test_seq_of_processes_at_once(home: Path) -> None:
    """Builders at the same time never get the same number."""
    code = (
        "import sys, pathlib; from zdpatch.cli.builder import take_seq;"
        "print(take_seq(pathlib.Path(sys.argv[1]), 'shop', None))"
    )

    def one(_: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)], check=True, capture_output=True
        )
        return int(done.stdout)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(one, range(6))) == [1, 2, 3, 4, 5, 6]


def test_damaged_counter_is_not_restarted(home: Path) -> None:
    """A counter that cannot be read is an error: from 1 again every bundle would be refused."""
    (home / "builder.json").write_text("{")
    with pytest.raises(OperatorError) as caught:
        take_seq(home, "shop", None)
    assert caught.value.code == "ZDP-002"
    assert take_seq(home / "other", "shop", None) == 1


def test_unsafe_is_refused_with_all_verdicts(build: Build, trees: Path) -> None:
    """What cannot go in place makes no bundle: exit 4 with path, line, reason and remedy."""
    shape = "class Cart:\n    __slots__ = ({})\n"
    (trees / "old/shop/cart.py").write_text(shape.format("'a',"))
    (trees / "new/shop/cart.py").write_text(shape.format("'a', 'b'"))
    ran = build("--json")
    assert ran.code == 4
    assert ran.error["code"] == "ZDP-202"
    assert all(verdict["reason"] and verdict["line"] for verdict in ran.error["verdicts"])
    assert not (trees / "fix.zdp").exists()
    again = build("--allow-unsafe", "--json")
    assert again.code == 0
    assert again.json["in_place"] is False


def test_no_difference(build: Build, trees: Path) -> None:
    """Two sources that are the same make no bundle."""
    (trees / "new/shop/cart.py").write_bytes((trees / "old/shop/cart.py").read_bytes())
    ran = build("--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-003")


def test_only_what_is_not_there(build: Build) -> None:
    """A name that neither side has is said to be that, and is no equality."""
    ran = build("--only", "nope", "--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-003")
    assert "what is asked for" in ran.error["cause"]


def test_changed_data_is_carried(build: Build, trees: Path) -> None:
    """A changed data file of a package is in the bundle, unless it is left out."""
    (trees / "old/shop/page.html").write_text("1")
    (trees / "new/shop/page.html").write_text("2")
    assert build("--json").json["data"] == ["shop/page.html"]
    assert build("--json", "--only", "shop.cart").json["data"] == []


def test_only_one_data_file(build: Build, cli: Cli, trees: Path) -> None:
    """With the modules that read it, as they were; what else differs is named."""
    for side, text in (("old", "1"), ("new", "2")):
        (trees / side / "shop/page.html").write_text(text)
        (trees / side / "shop/other.html").write_text(text)
        (trees / side / "shop/page.py").write_text(
            "from pathlib import Path\ndef page():\n"
            "    return (Path(__file__).parent / 'page.html').read_text()\n"
        )
    ran = build("--json", "--only", "shop/page.html")
    assert ran.json["data"] == ["shop/page.html"]
    assert ran.json["modules"] == ["shop", "shop.page"]
    words = build("--only", "shop/page.html").err
    assert "left out  shop/cart.py, shop/other.html" in words
    assert "left out  shop/other.html, shop/page.html" in build("--only", "shop.cart").err
    assert build("--only", "shop/page.html").code == 0
    lines = cli("diff", trees / "fix.zdp", "shop/page.html").out.splitlines()
    assert [line for line in lines if line[:1] in "+-" and line[1:2] in "12"] == ["-1", "+2"]


@pytest.mark.parametrize(
    ("number", "size", "words"),
    [
        (600, 1, "600 data files change, and a bundle takes 512 of them"),
        (1, 9 << 20, "most of all shop/a0.txt, and a bundle has at most 8,388,608"),
    ],
)
def test_more_than_a_bundle_takes(
    build: Build, trees: Path, number: int, size: int, words: str
) -> None:
    """Said before any verdict, with the way out."""
    for i in range(number):
        (trees / f"new/shop/a{i}.txt").write_bytes(b"a" * size)
    ran = build("--json")
    assert (ran.error["code"], words in ran.error["cause"]) == ("ZDP-101", True)
    assert "in place" not in ran.err
    assert "--only" in ran.error["next"]


def test_why_a_file_is_no_data(build: Build, trees: Path) -> None:
    """Each with its reason; a name that drives the terminal is not printed as it is."""
    for name in ("shop/a (1)", "shop/tpl.h", "b.ini", "shop/c\u202ed.txt"):
        (trees / "new" / name).write_text("1")
    ran = build()
    said = " ".join(ran.err.split())
    assert "b.ini (it is in no package)" in said
    assert "shop/a (1) (its name ends with a bracket" in said
    assert "shop/tpl.h (it is a module, or what one is compiled from)" in said
    assert "shop/c\\u202ed.txt (its name has a character that is not shown)" in said
    assert "\u202e" not in ran.err


def test_other_files_are_named(build: Build, trees: Path) -> None:
    """A changed file of no package is refused by name, never dropped in silence; --only is the way
    out.
    """
    (trees / "old/shop.ini").write_text("1")
    (trees / "new/shop.ini").write_text("2")
    ran = build("--json")
    assert (ran.code, ran.error["code"]) == (4, "ZDP-211")
    assert "shop.ini" in ran.error["cause"]
    assert build("--only", "shop.cart").code == 0


def test_source_that_does_not_compile(build: Build, trees: Path) -> None:
    """A syntax error is the author's, with its place."""
    (trees / "new/shop/cart.py").write_text("def price(:\n")
    ran = build("--json")
    assert (ran.code, ran.error["code"]) == (4, "ZDP-206")


def test_build_signs(cli: Cli, build: Build, trees: Path) -> None:
    """--sign adds a signature in the same step."""
    assert cli("keygen", trees / "ci.key", "--no-passphrase").code == 0
    assert build("--sign", str(trees / "ci.key"), "--json").json["signatures"] == 1


def test_build_needs_its_keys_first(build: Build, trees: Path) -> None:
    """A key that cannot be used stops the build before anything is written."""
    assert build("--sign", str(trees / "none.key")).code == 2
    assert not (trees / "fix.zdp").exists()


@pytest.mark.parametrize(
    "more",
    [
        ("--label", "zone"),
        ("--provenance", "colour=red"),
        ("--not-after", "soon"),
        ("--not-after", "2027-02-30"),
        ("--seq", "0"),
    ],
)
def test_bad_usage(build: Build, more: tuple[str, ...]) -> None:
    """What cannot be meant is usage: exit 2."""
    ran = build(*more, "--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-001")


def test_provenance() -> None:
    """What the CI says about itself goes in, only if there is a CI, and flags override it."""
    github = {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "abc", "GITHUB_RUN_ID": "7"}
    gitlab = {"GITLAB_CI": "true", "CI_COMMIT_SHA": "def", "CI_PIPELINE_ID": "8"}
    assert provenance({"GITHUB_SHA": "abc"}, {}).commit is None
    assert provenance(github, {}).ci_run == "7"
    assert provenance(gitlab, {}).builder == "gitlab-ci"
    assert provenance(github, {"commit": "mine"}).commit == "mine"


def test_times() -> None:
    """created is SOURCE_DATE_EPOCH where given; not_after is a span or the end of a day in UTC."""
    assert build_time({"SOURCE_DATE_EPOCH": "12"}) == 12
    assert last_second("1h30m", 100) == 100 + 5400
    assert last_second("1970-01-02", 0) == 2 * 86400 - 1
    with pytest.raises(OperatorError):
        build_time({"SOURCE_DATE_EPOCH": "now"})


def test_default_id() -> None:
    """The id is made of the release names, else of the app and the content, and always fits."""
    assert default_id("shop", "jinja2==3.1.5", "jinja2==3.1.6", "") == "JINJA2-3-1-5-TO-3-1-6"
    assert default_id("shop", "directory", "directory", "9f3c41aa77") == "SHOP-9F3C41AA"
    assert len(default_id("x" * 64, "directory", "directory", "9f3c41aa77")) == 40


def test_output_that_cannot_be_written(build: Build, trees: Path) -> None:
    """A file that cannot be written is an error, and nothing half is left."""
    folder = trees / "full"
    folder.mkdir()
    ran = build("-o", str(folder / "none" / "fix.zdp"), "--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-007")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("umask", ["0000", "0002", "0022"])
def test_new_home_is_private(tmp_path: Path, umask: str) -> None:
    """A home that a command makes on its way belongs to its user alone: agents refuse others."""
    home = tmp_path / "state" / "zdpatch"
    code = (
        "import os, sys; os.umask(int(sys.argv[1], 8)); from pathlib import Path;"
        "from zdpatch.cli.home import private_directory;"
        "private_directory(Path(sys.argv[2]) / 'cache' / 'wheels')"
    )
    subprocess.run([sys.executable, "-c", code, umask, str(home)], check=True)
    for path in (home, home / "cache", home / "cache" / "wheels"):
        assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("app", ["../shop", "", "a b", "x" * 65])
def test_application_that_no_agent_can_have(cli: Cli, trees: Path, app: str) -> None:
    """A name no process could have makes no bundle."""
    ran = cli("build", "--from", trees / "old", "--to", trees / "new", "--app", app, "--json")
    assert (ran.code, ran.error["code"]) == (2, "ZDP-001")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_can_write_what_build_writes(
    build: Build, trees: Path, tmp_path: Path, umask: int
) -> None:
    """The bundle is 0644 at most, the state of the builder 0600."""
    before = os.umask(umask)
    try:
        build()
        take_seq(tmp_path / "own", "shop", None)
    finally:
        os.umask(before)
    assert (trees / "fix.zdp").stat().st_mode & 0o777 == 0o644 & ~umask
    for name in ("builder.json", "builder.lock"):
        assert (tmp_path / "own" / name).stat().st_mode & 0o777 == 0o600
