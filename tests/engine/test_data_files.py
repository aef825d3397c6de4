"""Changed data files are served from a folder of their own, and come out with the patch; what
stands against it is said before anything is touched.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engine.programs import told
from zdpatch.agent import local
from zdpatch.agent.shelf import Shelf
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.source import DataChange

MODULE = """
import json
from importlib import resources
from pathlib import Path
HERE = Path(__file__).parent
def rate():
    return json.loads((HERE / "rates.json").read_text())["rate"]
def resource():
    return json.loads(resources.files("pkg").joinpath("rates.json").read_text())["rate"]
"""
FILES = {"pkg/__init__.py": "", "pkg/m.py": MODULE, "pkg/rates.json": '{"rate": 1}'}
HEAD = """
import importlib, json, os, pathlib, sys
from zdpatch.agent import local
from zdpatch.patcher.errors import ZdpatchError

base = {path: open(path, "rb").read() for path in ("pkg/__init__.py", "pkg/m.py", "pkg/rates.json")}
def patch(id, rate, was=1):
    data = [b'{"rate": %d}' % each for each in (was, rate)]
    old, new = ({**base, "pkg/rates.json": each} for each in data)
    made = local.make_patch(old, new, id=id)
    return made
def rates():
    m = importlib.import_module("pkg.m")
    return [m.rate(), m.resource()]
def refused(call, *args):
    try:
        call(*args)
    except ZdpatchError as error:
        return f"{error.code} {error.cause}"
    return "allowed"
sys.path.insert(0, os.getcwd())
del base["pkg/rates.json"]
"""
PROGRAMS = {
    "imported since, and undone": (
        """
import pkg
local.apply(local.plan(patch("ONE", 2)))
seen = [rates(), "pkg.m" in sys.modules]
local.revert("ONE")
print(seen, rates(), str(sys.modules["pkg.m"].HERE) == os.path.abspath("pkg"))
""",
        "[[2, 2], True] [1, 1] True",
    ),
    "a package imported since, and undone": (
        """
local.apply(local.plan(patch("ONE", 2)))
seen = rates()
local.revert("ONE")
print(seen, rates(), sys.modules["pkg"].__file__ == os.path.abspath("pkg/__init__.py"))
""",
        "[2, 2] [1, 1] True",
    ),
    "one on top of another": (
        """
import pkg.m
local.apply(local.plan(patch("ONE", 2)))
local.apply(local.plan(patch("TWO", 3, was=2)))
seen = [rates(), refused(local.revert, "ONE")[:7]]
local.revert("TWO")
seen += [rates()]
local.revert("ONE")
print(*seen, rates())
""",
        "[3, 3] ZDP-204 [2, 2] [1, 1]",
    ),
    "the file is not the base": (
        """
import pkg.m
print(refused(local.plan, patch("ONE", 3, was=2)), rates())
""",
        "ZDP-201 pkg/rates.json: the file that this process would read is not the base of the patch"
        " [1, 1]",
    ),
    "the file is there already": (
        """
import pkg.m
pathlib.Path("pkg/rates.json").write_text('{"rate": 2}')
engine, one = local.engine(), patch("ONE", 2)
plan = local.plan(one)
print(engine.standing(one), [n for n in plan.notices if "already" in n])
""",
        "absorbed ['pkg/rates.json is on disk as the patch wants it already']",
    ),
    "how a process stands to it": (
        """
import pkg.m
engine = local.engine()
print(engine.standing(patch("ONE", 2)), engine.standing(patch("TWO", 3, was=2)))
""",
        "base superseded",
    ),
    "born on trial": (
        """
import pkg.m
local.apply(local.plan(patch("ONE", 2)))
held = [pkg.m.HERE / "rates.json"]
undone = local.revert("ONE")
print(undone.born_on_trial, rates())
""",
        "{'pkg/rates.json': 1} [1, 1]",
    ),
    "no room": (
        """
import pkg.m, resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
one = patch("ONE", 2)
resource.setrlimit(resource.RLIMIT_FSIZE, (4, resource.RLIM_INFINITY))
said = refused(local.plan, one)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
files = local.engine().shelf.base
print(said[:55], rates(), os.listdir(files), refused(local.plan, one))
""",
        "ZDP-211 pkg/rates.json cannot be served: File too large [1, 1] [] allowed",
    ),
    "a frozen heap": (
        """
import gc, pkg.m
gc.freeze()
print(refused(local.plan, patch("ONE", 2)))
""",
        "ZDP-202 pkg/rates.json (line 1): who holds a path to it cannot be seen here (gc.freeze)",
    ),
    "certificates that a TLS context may have": (
        """
import pkg.m, ssl
place = pathlib.Path("pkg/ca.pem")
place.write_text(str(list(range(9))))
one = local.make_patch(
    {**base, "pkg/ca.pem": place.read_bytes()}, {**base, "pkg/ca.pem": b"new"}, id="ONE"
)
del place
context = ssl.create_default_context()
print(refused(local.plan, one))
del context
print(refused(local.plan, one))
""",
        "ZDP-202 pkg/ca.pem (line 1): 1 TLS contexts live, which may have loaded it\nallowed",
    ),
    "a package in an archive": (
        """
import zipfile
with zipfile.ZipFile("all.zip", "w") as archive:
    for path in ("pkg/__init__.py", "pkg/m.py", "pkg/rates.json"):
        archive.write(path)
sys.path.insert(0, os.path.abspath("all.zip"))
import pkg.m
print(refused(local.plan, patch("ONE", 2)))
""",
        "ZDP-211 pkg/rates.json cannot be served: the package pkg is not a folder of files here",
    ),
    "modules without source": (
        """
import compileall
compileall.compile_dir("pkg", legacy=True, quiet=1)
os.unlink("pkg/m.py"), os.unlink("pkg/__init__.py")
import pkg.m
local.apply(local.plan(patch("ONE", 2)))
seen = rates()
local.revert("ONE")
print(seen, rates())
""",
        "[2, 2] [1, 1]",
    ),
    "a file that another patch has changed": (
        """
import pkg.m
local.apply(local.plan(patch("ONE", 2)))
try:
    local.plan(patch("TWO", 3))
except ZdpatchError as error:
    print(error.code, error.next)
""",
        "ZDP-204 zdpatch rollback ONE   or build on top of it:"
        " zdpatch build --from what ONE was built --to",
    ),
    "served files that somebody damages": (
        """
import pkg.m, shutil
local.apply(local.plan(patch("ONE", 2)))
local.apply(local.plan(patch("TWO", 3, was=2)))
engine = local.engine()
def damaged():
    return [(each.patch, each.path) for each in engine.damaged()]
os.write(number := os.open(pkg.m.HERE / "rates.json", os.O_WRONLY), b'{"rate": 9}')
os.close(number)
seen = [rates(), damaged(), engine.mend(), damaged(), rates()]
os.unlink(pkg.m.HERE / "rates.json")
seen += [damaged(), engine.mend(), damaged(), rates()]
shutil.rmtree(engine.shelf.base)
seen += [damaged(), engine.mend(), damaged(), rates(), len(os.listdir(engine.shelf.base))]
assert all(not each.why for mended in seen[2::4] for each in mended)
seen[2::4] = [len(mended) for mended in seen[2::4]]
print(*seen[:5]), print(*seen[5:9]), print(*seen[9:])
local.revert("TWO")
print(rates(), damaged())
local.revert("ONE")
print(rates(), damaged())
""",
        "[9, 9] [('TWO', 'pkg/rates.json')] 1 [] [3, 3]\n"
        "[('TWO', 'pkg/rates.json')] 1 [] [3, 3]\n"
        "[('ONE', 'pkg/rates.json'), ('TWO', 'pkg/rates.json')] 2 [] [3, 3] 2\n"
        "[2, 2] []\n[1, 1] []",
    ),
    "a served file that cannot be put back": (
        """
import pkg.m, shutil
local.apply(local.plan(patch("ONE", 2)))
os.unlink(pkg.m.HERE / "rates.json")
os.mkdir(pkg.m.HERE / "rates.json")
found = local.engine().mend()
print([(each.patch, each.path, each.why[:15]) for each in found], len(local.engine().damaged()))
""",
        "[('ONE', 'pkg/rates.json', 'Is a directory:')] 1",
    ),
    "forked children": (
        """
import pkg.m
local.apply(local.plan(patch("ONE", 2)))
read, write = os.pipe()
if os.fork() == 0:
    seen = [rates()]
    local.revert("ONE")
    os.write(write, repr([*seen, rates()]).encode())
    os._exit(0)
os.wait()
print(os.read(read, 99).decode(), rates())
""",
        "[[2, 2], [1, 1]] [2, 2]",
    ),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_data_file(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process with a patched data file says, in each of these situations."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    program, expected = PROGRAMS[what]
    assert told(tmp_path, HEAD + program, []) == expected


def test_what_is_no_data_of_a_package() -> None:
    """A file beside the packages, a compiled module: refused when the patch is made."""
    for path in ("config.json", "folder/config.json", "pkg/fast.so"):
        base: dict[str, str] = {"pkg/__init__.py": "", path: "1"}
        with pytest.raises(ZdpatchError) as caught:
            local.make_patch(base, {**base, path: "2"})
        assert (caught.value.code, path in caught.value.cause) == ("ZDP-211", True)


def test_who_reads_goes_with_the_file() -> None:
    """A patch of a data file has the modules that may read it, and no others."""
    base = {
        "pkg/__init__.py": "",
        "pkg/x.json": "1",
        "pkg/paths.py": "import os\nHERE = os.path.dirname(__file__)\n",
        "pkg/user.py": "from pkg.paths import HERE\ndef f():\n    return open(HERE + '/x.json')\n",
        "pkg/other.py": "def g():\n    return 1\n",
        "tool.py": "import pkgutil\ndef h():\n    return pkgutil.get_data('pkg', 'x.json')\n",
    }
    made = local.make_patch(base, {**base, "pkg/x.json": "2"})
    assert [change.name for change in made.changes] == ["pkg", "pkg.paths", "pkg.user", "tool"]
    assert made.data == (DataChange("pkg/x.json", b"1", b"2"),)


def test_a_folder_is_complete_and_the_same(tmp_path: Path) -> None:
    """Its files lie in it, with their modes; links lead where they led; what goes is not there."""
    real = tmp_path / "pkg"
    (real / "sub").mkdir(parents=True)
    for name in ("__init__.py", "a.json", "b.json", "sub/c.txt"):
        (real / name).write_text(name)
    (real / "a.json").chmod(0o750)
    (tmp_path / "elsewhere").mkdir()
    (real / "out").symlink_to("../elsewhere")
    (real / "in").symlink_to("sub/c.txt")
    shelf = Shelf(tmp_path / "files")
    place = shelf.fill(str(real), {"a.json": b"new", "b.json": None, "more/d.txt": b"d"})
    assert place == shelf.fill(str(real), {"a.json": b"new", "b.json": None, "more/d.txt": b"d"})
    seen = [path.relative_to(place).as_posix() for path in Path(place).rglob("*.*")]
    assert sorted(seen) == ["__init__.py", "a.json", "more/d.txt", "sub/c.txt"]
    assert os.path.realpath(f"{place}/in") == f"{place}/sub/c.txt"
    assert os.path.realpath(f"{place}/out") == str(tmp_path / "elsewhere")
    assert Path(place, "a.json").stat().st_mode & 0o777 == 0o750
    assert shelf.read(f"{place}/a.json") == b"new"
    assert shelf.read(f"{place}/b.json") is None
    assert os.path.realpath(f"{place}/__init__.py") == f"{place}/__init__.py"
    assert os.path.realpath(f"{place}/sub/c.txt") == f"{place}/sub/c.txt"
    assert place != shelf.fill(str(real), {"a.json": b"other"})


def test_a_folder_that_somebody_changed_is_made_again(tmp_path: Path) -> None:
    """What is in it is compared; what a deploy adds to the package makes another folder."""
    real = tmp_path / "pkg"
    real.mkdir()
    shelf = Shelf(tmp_path / "files")
    place = Path(shelf.fill(str(real), {"a.json": b"new"}))
    (place / "a.json").write_bytes(b"evil")
    assert shelf.fill(str(real), {"a.json": b"new"}) == str(place)
    assert (place / "a.json").read_bytes() == b"new"
    (real / "b.json").write_text("b")
    assert Path(shelf.fill(str(real), {"a.json": b"new"}), "b.json").read_text() == "b"


def test_a_folder_is_on_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the journal calls applied, a loss of power does not take away."""
    synced: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/b.txt").write_text("b")
    Shelf(tmp_path / "files").fill(str(tmp_path / "pkg"), {"a.json": b"new"})
    assert [Path(path).name for path in synced[:1]] == ["a.json"]
    assert [Path(path).name for path in synced[-2:]] == ["pkg", "files"]


def test_a_folder_made_by_another_user_is_not_used(tmp_path: Path) -> None:
    """Not even when the wanted folder is in it."""
    (tmp_path / "pkg").mkdir()
    files = tmp_path / "files"
    shelf = Shelf(files)
    shelf.fill(str(tmp_path / "pkg"), {"a": b""})
    files.chmod(0o777)
    with pytest.raises(PermissionError):
        shelf.fill(str(tmp_path / "pkg"), {"a": b""})


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Who reads one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert Shelf(tmp_path / "files").read(str(tmp_path / "pipe")) is None


def test_a_place_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    """Who can write there could change what is served."""
    (tmp_path / "pkg").mkdir()
    files = tmp_path / "files"
    files.mkdir()
    files.chmod(0o777)
    with pytest.raises(PermissionError):
        Shelf(files).fill(str(tmp_path / "pkg"), {"a": b""})
    assert list(files.iterdir()) == []


def test_a_package_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of all its folders count together."""
    for folder in ("one", "two"):
        (tmp_path / "pkg" / folder).mkdir(parents=True)
        (tmp_path / "pkg" / folder / "a.txt").write_text("a")
    monkeypatch.setattr("zdpatch.agent.shelf._MOST", 3)
    with pytest.raises(OSError, match="more than 3 files"):
        Shelf(tmp_path / "files").fill(str(tmp_path / "pkg"), {"a": b""})
    assert not list((tmp_path / "files").glob("*/pkg"))


def test_a_link_out_of_the_folder_is_not_written_through(tmp_path: Path) -> None:
    """The file that it leads to belongs to somebody else."""
    (tmp_path / "pkg").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pkg/out").symlink_to("../elsewhere")
    with pytest.raises(OSError, match="link"):
        Shelf(tmp_path / "files").fill(str(tmp_path / "pkg"), {"out/a.txt": b"a"})
    assert list((tmp_path / "elsewhere").iterdir()) == []
