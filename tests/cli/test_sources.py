"""A source is read as bytes from wherever it is, and what does not look right is refused."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import subprocess
import sys
import tracemalloc
import zipfile
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli import import_root, sources
from zdpatch.cli.import_root import SourceError, is_left_out, read_directory
from zdpatch.cli.revision import read_git
from zdpatch.cli.sources import narrowed, read_source
from zdpatch.cli.wheels import read_wheel
from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.tree import SourceTree, make_patch, tree_from_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PLAIN = {"shop/__init__.py": b"", "shop/cart.py": b"VAT = 1\n"}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Put files below a folder."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def record_line(name: str, data: bytes) -> str:
    """A line of RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def wheel(folder: Path, files: Mapping[str, bytes], *, record: str | None = None) -> Path:
    """A wheel file of `shop` 1.0."""
    path = folder / "shop-1.0-py3-none-any.whl"
    lines = "".join(record_line(name, data) for name, data in files.items())
    meta = "shop-1.0.dist-info/RECORD"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(meta, lines + f"{meta},,\n" if record is None else record)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Callable[..., str]:
    """Commits files in one repository; returns the commit."""
    folder = tmp_path / "repo"
    folder.mkdir()

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    git("init", "-q")

    def commit(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> str:
        write(folder, files)
        for name, target in (links or {}).items():
            (folder / name).symlink_to(target)
        git("add", "-A")
        git("commit", "-q", "-m", "x")
        return git("rev-parse", "HEAD")

    return commit


def test_directory(tmp_path: Path) -> None:
    """Modules and data are read; caches, dotted folders and metadata are not."""
    write(tmp_path, {**PLAIN, "shop/page.html": b"<p>", "shop/__pycache__/cart.pyc": b"x"})
    write(tmp_path, {".git/config": b"", "shop.egg-info/PKG-INFO": b"", "shop/a.pyc": b""})
    source = read_directory(tmp_path)
    assert source.origin == "directory"
    assert source.files == {**PLAIN, "shop/page.html": b"<p>"}


def test_directory_follows_links_once(tmp_path: Path) -> None:
    """A link to a folder is read, a link to a folder above ends."""
    write(tmp_path / "real", PLAIN)
    root = tmp_path / "root"
    root.mkdir()
    (root / "shop").symlink_to(tmp_path / "real" / "shop")
    (root / "loop").symlink_to(root)
    assert read_directory(root).files == PLAIN


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be an import root is refused before all of it is read."""
    monkeypatch.setattr(import_root, "MAX_FILES", 1)
    with pytest.raises(SourceError, match="does not look like an import root"):
        read_directory(write(tmp_path, PLAIN))


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("a/b.py", False),
        ("a/.hidden", False),
        (".github/x.py", True),
        ("a/__pycache__/b.py", True),
        ("a-1.dist-info/METADATA", True),
        ("a/b.pyc", True),
    ],
)
def test_what_is_left_out(path: str, left_out: bool) -> None:
    """Only what can never be source is left out."""
    assert is_left_out(path) is left_out


def test_git_src_layout(tmp_path: Path, repository: Callable[..., str]) -> None:
    """Without --root the src folder of a revision is the import root; the work tree is not read."""
    old = repository({"src/shop/cart.py": b"VAT = 1\n", "README.md": b"x"})
    repository({"src/shop/cart.py": b"VAT = 2\n"})
    source = read_git(old[:12], root=None, repository=tmp_path / "repo")
    assert source.origin == f"git:{old}"
    assert source.files == {"shop/cart.py": b"VAT = 1\n"}


def test_git_flat_layout(tmp_path: Path, repository: Callable[..., str]) -> None:
    """In a flat layout packages and modules count; tests, docs and build files do not."""
    aside = {"README.md": b"", "setup.py": b"", "tests/__init__.py": b"", "docs/conf.py": b""}
    repository({**PLAIN, "tool.py": b"", **aside})
    where = tmp_path / "repo"
    assert set(read_git("HEAD", root=None, repository=where).files) == {*PLAIN, "tool.py"}
    assert set(aside) <= set(read_git("HEAD", root=".", repository=where).files)
    inside = read_git("HEAD", root="shop", repository=where / "shop")
    assert set(inside.files) == {"__init__.py", "cart.py"}


def test_git_links(tmp_path: Path, repository: Callable[..., str]) -> None:
    """A linked folder is read where the link is."""
    repository(
        {"cart/__init__.py": b"1\n", "src/shop/__init__.py": b""}, {"src/shop/cart": "../../cart"}
    )
    source = read_git("HEAD", root=None, repository=tmp_path / "repo")
    assert source.files == {"shop/__init__.py": b"", "shop/cart/__init__.py": b"1\n"}


def test_git_namespace_package(tmp_path: Path, repository: Callable[..., str]) -> None:
    """A folder of modules without `__init__.py` is a package in a flat layout too."""
    repository(
        {**PLAIN, "ns/b.py": b"1\n", "ns/deep/c.py": b"", "tools/x.py": b"", "a-b/y.py": b""}
    )
    source = read_git("HEAD", root=None, repository=tmp_path / "repo")
    assert set(source.files) == {*PLAIN, "ns/b.py", "ns/deep/c.py"}


def test_git_links_to_links(tmp_path: Path, repository: Callable[..., str]) -> None:
    """A link is followed through others; one that leaves the tree is there by name."""
    links = {"shop/one.py": "cart.py", "shop/two.py": "one.py", "shop/sub": "../real/in"}
    links |= {"real/in": "../data", "shop/out.py": "/etc/hosts", "shop/loop.py": "loop.py"}
    repository({**PLAIN, "data/x.py": b"2\n", "real/keep.py": b""}, links)
    source = read_git("HEAD", root="shop", repository=tmp_path / "repo")
    assert {**source.files} == {
        "__init__.py": b"",
        "cart.py": b"VAT = 1\n",
        "one.py": b"VAT = 1\n",
        "two.py": b"VAT = 1\n",
        "sub/x.py": b"2\n",
        "out.py (link out of the tree)": b"/etc/hosts",
        "loop.py (link out of the tree)": b"loop.py",
    }


def test_git_submodule_is_named(tmp_path: Path, repository: Callable[..., str]) -> None:
    """A submodule that moves is a change which nobody can look into: named, never dropped."""
    where = tmp_path / "repo"
    trees: list[SourceTree] = []
    for oid in ("1" * 40, "2" * 40):
        repository(PLAIN)
        info = f"160000,{oid},shop/vendor"
        run = ["git", "-C", str(where), "update-index", "--add", "--cacheinfo", info]
        subprocess.run(run, check=True)
        commit = ["git", "-C", str(where), "-c", "user.name=a", "-c", "user.email=a@b", "commit"]
        subprocess.run([*commit, "-q", "-m", oid], check=True)
        trees.append(tree_from_files(read_git("HEAD", root=None, repository=where).files))
    with pytest.raises(AuthorError, match="vendor") as caught:
        make_patch("P", *trees)
    assert caught.value.code == "ZDP-211"


def test_git_revision_by_message(tmp_path: Path, repository: Callable[..., str]) -> None:
    """Any way in which git names a revision is one."""
    made = repository(PLAIN)
    message = ["git", "-C", str(tmp_path / "repo"), "log", "-1", "--format=%s", made]
    said = subprocess.run(message, check=True, capture_output=True, text=True).stdout.strip()
    source = read_git(f":/{said}", root=None, repository=tmp_path / "repo")
    assert source.origin == f"git:{made}"


@pytest.mark.parametrize("revision", ["nothing", "--help", "HEAD~99"])
def test_git_bad_revision(tmp_path: Path, repository: Callable[..., str], revision: str) -> None:
    """What is no revision is refused, and never taken for an option."""
    repository(PLAIN)
    with pytest.raises(SourceError) as caught:
        read_git(revision, root=None, repository=tmp_path / "repo")
    assert caught.value.code == "ZDP-004"


def test_wheel(tmp_path: Path) -> None:
    """A wheel's modules are read, and what it installs elsewhere is data; its metadata is not."""
    extra = {"shop-1.0.data/purelib/extra.py": b"1\n", "shop-1.0.data/scripts/run": b""}
    source = read_wheel(wheel(tmp_path, {**PLAIN, **extra, "shop-1.0.dist-info/METADATA": b""}))
    assert source.origin == "wheel:shop-1.0-py3-none-any.whl"
    assert source.files == {**PLAIN, "extra.py": b"1\n", "scripts of the wheel: run": b""}


@pytest.mark.parametrize("scheme", ["data", "scripts"])
def test_changed_data_of_a_wheel_is_named(tmp_path: Path, scheme: str) -> None:
    """What a wheel installs beside its packages counts as data: a change of it is never dropped."""
    trees: list[SourceTree] = []
    for text in (b"1", b"2"):
        path = wheel(tmp_path, {**PLAIN, f"shop-1.0.data/{scheme}/etc/shop.py": text})
        trees.append(tree_from_files(read_wheel(path).files))
    with pytest.raises(AuthorError, match=f"{scheme} of the wheel: etc/shop.py") as caught:
        make_patch("P", *trees)
    assert caught.value.code == "ZDP-211"


def test_wheel_that_lies_about_a_size(tmp_path: Path) -> None:
    """No more of a member is unpacked than it says it holds, whatever is in it."""
    path = wheel(tmp_path, {**PLAIN, "shop/big.py": b"#" * (64 << 20)})
    raw = path.read_bytes()
    path.write_bytes(raw.replace((64 << 20).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    tracemalloc.start()
    with pytest.raises(SourceError) as caught:
        read_wheel(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "ZDP-004"
    assert peak < 8 << 20


def test_damaged_wheel(tmp_path: Path) -> None:
    """Damage anywhere is the wheel's fault, and is never called a bug."""
    raw = wheel(tmp_path, {**PLAIN, "shop/more.py": b"x = 1\n" * 400}).read_bytes()
    for at in range(0, len(raw), 7):
        (tmp_path / "x.whl").write_bytes(raw[:at] + bytes([raw[at] ^ 0x55]) + raw[at + 1 :])
        with contextlib.suppress(SourceError):
            read_wheel(tmp_path / "x.whl")


@pytest.mark.parametrize("name", ["../up.py", "/etc/x.py", "a/../../b.py", "a\\b.py"])
def test_wheel_outside_of_itself(tmp_path: Path, name: str) -> None:
    """A name that leaves the wheel is refused."""
    with pytest.raises(SourceError, match="outside of itself"):
        read_wheel(wheel(tmp_path, {name: b""}))


@pytest.mark.parametrize(
    "name", ["shop/fast.so", "shop/fast.cpython-311-x86_64-linux-gnu.so", "l.so.1"]
)
def test_wheel_with_compiled_code(tmp_path: Path, name: str) -> None:
    """Compiled code cannot be replaced in a process."""
    with pytest.raises(SourceError) as caught:
        read_wheel(wheel(tmp_path, {**PLAIN, name: b"\x7fELF"}))
    assert caught.value.code == "ZDP-005"


def test_wheel_that_was_changed(tmp_path: Path) -> None:
    """A file that does not match RECORD, or is not in it, is refused; so is a wheel without one."""
    lines = "".join(record_line(name, data) for name, data in PLAIN.items())
    for record in (lines.replace("=", "=A"), "", "shop/cart.py,,\nshop/__init__.py,,\n"):
        with pytest.raises(SourceError, match="RECORD"):
            read_wheel(wheel(tmp_path, PLAIN, record=record))


def test_not_a_wheel(tmp_path: Path) -> None:
    """A file that is no zip, and one that is not there, are refused."""
    (tmp_path / "x.whl").write_bytes(b"PK nonsense")
    for name in ("x.whl", "y.whl"):
        with pytest.raises(SourceError) as caught:
            read_source(name, cache=tmp_path, here=tmp_path)
        assert caught.value.code == "ZDP-004"


def test_release_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """name==version takes the wheel that pip finds, and keeps it."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    files = {
        **PLAIN,
        "shop-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n",
    }
    files["shop-1.0.dist-info/WHEEL"] = (
        b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    made = wheel(shelf, files)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    source = read_source("Shop==1.0", cache=tmp_path / "cache", here=tmp_path)
    assert source.origin == "Shop==1.0"
    assert source.files == PLAIN
    made.unlink()
    assert read_source("shop==1.0", cache=tmp_path / "cache", here=tmp_path).files == PLAIN


def test_release_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that has neither wheel nor sdist is an error with pip's own words."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(SourceError, match="could not fetch a wheel") as caught:
        read_source("shop==9.9", cache=tmp_path / "cache", here=tmp_path)
    assert caught.value.code == "ZDP-004"


@pytest.mark.network
def test_release_of_the_index(tmp_path: Path) -> None:
    """A real release is fetched without executing any of it."""
    source = read_source("iniconfig==2.0.0", cache=tmp_path, here=tmp_path)
    assert "iniconfig/__init__.py" in source.files


@pytest.mark.parametrize(
    ("spec", "code"),
    [("shop-1.0.tar.gz", "ZDP-004"), ("nothing", "ZDP-004"), ("shop>=1", "ZDP-004")],
)
def test_unknown_kinds(tmp_path: Path, spec: str, code: str) -> None:
    """What is none of the kinds, or is not there, is refused."""
    with pytest.raises(SourceError) as caught:
        read_source(spec, cache=tmp_path, here=tmp_path)
    assert caught.value.code == code


def test_narrowed(tmp_path: Path) -> None:
    """--only takes packages, modules and paths."""
    source = read_directory(write(tmp_path, {**PLAIN, "tool.py": b"", "other/x.py": b""}))
    assert set(narrowed(source, ["shop"]).files) == set(PLAIN)
    assert set(narrowed(source, ["shop.cart", "tool"]).files) == {"shop/cart.py", "tool.py"}
    assert narrowed(source, []) == source


def test_no_code_is_executed(tmp_path: Path) -> None:
    """Reading a source imports nothing of it."""
    write(tmp_path / "old", {"evil.py": b"raise SystemExit(99)\n", "sitecustomize.py": b"1 / 0\n"})
    before = set(sys.modules)
    sources.read_source("old", cache=tmp_path, here=tmp_path)
    assert not {"evil", "sitecustomize"} & (set(sys.modules) - before)
    assert os.fspath(tmp_path) not in sys.path
