"""An sdist is read as bytes: what is installed of it is told by its declarations or not at all."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import stat
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from zdpatch.cli import import_root
from zdpatch.cli.archives import read_archive
from zdpatch.cli.import_root import SourceError
from zdpatch.cli.sdists import read_sdist
from zdpatch.cli.sources import read_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.cli.conftest import Cli

INFO = {"PKG-INFO": b"Metadata-Version: 2.1\nName: shop\nVersion: 1.0\n"}
EVIL = {"setup.py": b"import pathlib; pathlib.Path('ran').touch(); raise SystemExit(9)\n"}
PLAIN = {"__init__.py": b"", "cart.py": b"VAT = 1\n"}


def at(folder: str, files: Mapping[str, bytes] = PLAIN) -> dict[str, bytes]:
    """The same files below a folder."""
    return {f"{folder}/{name}": data for name, data in files.items()}


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    """One header of a tar archive."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info


def sdist(
    folder: Path, files: Mapping[str, bytes], *odd: tarfile.TarInfo, kind: str = "gz"
) -> Path:
    """An sdist file of `shop` 1.0."""
    path = folder / f"shop-1.0.tar.{kind}"
    packers: dict[str, Callable[[bytes], bytes]]
    packers = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, data in {**INFO, **files}.items():
            archive.addfile(member(f"shop-1.0/{name}", size=len(data)), io.BytesIO(data))
        for info in odd:
            archive.addfile(info)
    path.write_bytes(packers[kind](plain.getvalue()))
    return path


def declared(text: str) -> dict[str, bytes]:
    """A `pyproject.toml`."""
    return {"pyproject.toml": text.encode()}


def backend(module: str, text: str = "") -> dict[str, bytes]:
    """A `pyproject.toml` that names its build backend."""
    return declared(f'[build-system]\nbuild-backend = "{module}"\n[project]\nname = "shop"\n{text}')


def egg(folder: str, *names: str) -> dict[str, bytes]:
    """What setuptools leaves in an sdist."""
    return {f"{folder}shop.egg-info/top_level.txt": "\n".join(names).encode()}


ASIDE = {"tests/__init__.py": b"", "docs/conf.py": b"", "examples/x.py": b"", "README": b""}
LAYOUTS: dict[str, dict[str, bytes]] = {
    "flat": at("shop"),
    "src": at("src/shop"),
    "egg-info flat": {**at("shop"), **at("other"), **egg("", "shop", "tests")},
    "egg-info in lib": {**at("lib/shop"), **at("shop_old"), **egg("lib/", "shop")},
    "setup.cfg": {
        **at("a/b/shop"),
        "setup.cfg": b"[options]\npackages=shop\npackage_dir=\n =a/b",
    },
    "tool.setuptools where": {
        **at("code/shop"),
        **declared('[tool.setuptools.packages.find]\nwhere = ["code"]'),
        **egg("", "shop"),
    },
    "tool.setuptools package-dir": {
        **at("lib/source"),
        **at("other"),
        **declared('[tool.setuptools]\npackages = ["shop"]\npackage-dir = {shop = "lib/source"}'),
    },
    "tool.setuptools packages": {
        **at("shop"),
        **at("other"),
        **declared('[tool.setuptools]\npackages = ["shop", "shop.sub"]'),
    },
    "hatch": {
        **at("code/shop"),
        **at("other"),
        **backend("hatchling.build", '[tool.hatch.build.targets.wheel]\npackages=["code/shop"]'),
    },
    "hatch only-include": {
        **at("code/shop"),
        **backend(
            "hatchling.build",
            '[tool.hatch.build.targets.wheel]\nonly-include=["code/shop"]\nsources=["code"]',
        ),
    },
    "hatch default": {**at("src/shop"), **at("other"), **backend("hatchling.build")},
    "poetry": {
        **at("code/shop"),
        **at("other"),
        **backend(
            "poetry.core.masonry.api",
            '[tool.poetry]\npackages=[{include="shop", from="code"}]',
        ),
    },
    "poetry default": {**at("shop"), **at("other"), **backend("poetry.core.masonry.api")},
    "flit": {
        **at("src/shop"),
        **at("shop_x"),
        **backend("flit_core.buildapi", '[tool.flit.module]\nname = "shop"'),
    },
    "uv": {
        **at("code/shop"),
        **backend("uv_build", '[tool.uv.build-backend]\nmodule-root="code"\nmodule-name="shop"'),
    },
    "pdm": {
        **at("src/shop"),
        **at("other"),
        **backend("pdm.backend", '[tool.pdm.build]\nincludes=["src/shop"]'),
    },
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_layouts(tmp_path: Path, layout: str) -> None:
    """The import root is found in each layout; tests, docs and the build's files are left out."""
    source = read_sdist(sdist(tmp_path, {**LAYOUTS[layout], **ASIDE, **EVIL}))
    assert source.files == at("shop")
    assert source.origin == "sdist:shop-1.0.tar.gz"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "files",
    [
        {"shop.py": b"1\n", **backend("flit_core.buildapi")},
        {"shop.py": b"1\n", **at("other"), **declared('[tool.setuptools]\npy-modules = ["shop"]')},
        {"shop.py": b"1\n", **at("other"), "setup.cfg": b"[options]\npy_modules = shop\n"},
        {"src/shop.py": b"1\n"},
        {"shop.py": b"1\n", "setup.py": b""},
    ],
)
def test_one_module(tmp_path: Path, files: dict[str, bytes]) -> None:
    """A project may be one file."""
    assert read_sdist(sdist(tmp_path, files)).files == {"shop.py": b"1\n"}


@pytest.mark.parametrize(
    "files",
    [
        {**at("shop"), **at("other"), **EVIL},  # only its setup.py knows
        {**at("shop"), "other.py": b""},
        {"README": b""},
        {**at("shop"), **declared('[tool.setuptools]\npackages = ["gone"]')},
        {**at("shop"), **egg("", "gone")},
        {**at("shop"), **declared("[tool")},
        {**at("shop"), "setup.cfg": b"no section\n"},
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, files: dict[str, bytes]) -> None:
    """Where declarations and tree leave no answer, or several, the remedy is said."""
    with pytest.raises(SourceError) as caught:
        read_sdist(sdist(tmp_path, files))
    assert caught.value.code == "ZDP-004"
    assert "give its wheel, or unpack it" in caught.value.next


def test_compiled_sources_count(tmp_path: Path) -> None:
    """What compiled code is built from is data of the source, wherever it lies."""
    files = {**at("shop"), "fast/x.c": b"int x;", "tests/y.c": b"", **egg("", "shop", "_shop")}
    assert read_sdist(sdist(tmp_path, files)).files == {**at("shop"), "fast/x.c": b"int x;"}


def test_tests_inside_of_the_package(tmp_path: Path) -> None:
    """A folder of tests in the package is left out: wheels mostly are without it."""
    files = {**at("shop"), "shop/tests/__init__.py": b"", "shop/test.py": b""}
    assert set(read_sdist(sdist(tmp_path, files)).files) == {*at("shop"), "shop/test.py"}


def test_zip_and_other_compressions(tmp_path: Path) -> None:
    """A zip, and tar in each compression, give the same."""
    path = tmp_path / "shop-1.0.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.mkdir("shop-1.0")
        for name, data in {**INFO, **at("src/shop")}.items():
            archive.writestr(f"shop-1.0/{name}", data)
    assert read_source(str(path), cache=tmp_path, here=tmp_path).files == at("shop")
    for kind in ("gz", "bz2", "xz"):
        path = sdist(tmp_path, at("src/shop"), kind=kind)
        assert read_source(str(path), cache=tmp_path, here=tmp_path).files == at("shop")


HOSTILE = {
    "above": member("shop-1.0/../../up.py"),
    "absolute": member("/etc/up.py"),
    "backslash": member("shop-1.0/a\\b.py"),
    "control": member("shop-1.0/a\nb.py"),
    "device": member("shop-1.0/null", tarfile.CHRTYPE),
    "pipe": member("shop-1.0/pipe", tarfile.FIFOTYPE),
    "link": member("shop-1.0/shop/link.py", tarfile.SYMTYPE),
    "hard link": member("shop-1.0/shop/hard.py", tarfile.LNKTYPE),
    "twice": member("shop-1.0/shop/cart.py"),
    "two tops": member("other/x.py"),
    "no top": member("x.py"),
}


@pytest.mark.parametrize("what", sorted(HOSTILE))
def test_hostile_members(tmp_path: Path, what: str) -> None:
    """No member leaves the archive, is a device, or stands for another file."""
    with pytest.raises(SourceError) as caught:
        read_sdist(sdist(tmp_path, at("shop"), HOSTILE[what]))
    assert caught.value.code == "ZDP-004"


def test_link_beside_the_package(tmp_path: Path) -> None:
    """A link in what is not installed means nothing: nothing is unpacked."""
    link = member("shop-1.0/docs/link", tarfile.SYMTYPE)
    link.linkname = "/etc/passwd"
    assert read_sdist(sdist(tmp_path, at("shop"), link)).files == at("shop")


def test_hostile_zip_members(tmp_path: Path) -> None:
    """The same in a zip, where a kind of file hides in the attributes."""
    for name, mode in (
        ("../x", 0),
        ("shop-1.0/null", stat.S_IFCHR),
        ("shop-1.0/shop/a", stat.S_IFLNK),
    ):
        path = tmp_path / "shop-1.0.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for plain, data in {**INFO, **at("shop")}.items():
                archive.writestr(f"shop-1.0/{plain}", data)
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, b"/etc/passwd")
        with pytest.raises(SourceError):
            read_sdist(path)


def test_huge_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are counted before they are read, and what a header itself takes is bounded too."""
    monkeypatch.setattr(import_root, "MAX_BYTES", 1 << 16)
    path = tmp_path / "shop-1.0.tar.gz"
    for size in (1 << 17, 1 << 40):
        raw = member("shop-1.0/x.py", size=size).tobuf(tarfile.GNU_FORMAT)
        path.write_bytes(gzip.compress(raw + bytes(4096)))
        with pytest.raises(SourceError, match="holds more than"):
            read_archive(path)
    header = member("x", tarfile.XHDTYPE, size=1 << 20).tobuf(tarfile.GNU_FORMAT)
    path.write_bytes(gzip.compress(header + bytes(1 << 20)))
    with pytest.raises(SourceError, match="unpacks to more"):
        read_archive(path)


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders count as well."""
    monkeypatch.setattr(import_root, "MAX_FILES", 5)
    folders = [member(f"shop-1.0/{n}", tarfile.DIRTYPE) for n in range(6)]
    with pytest.raises(SourceError, match="holds more than"):
        read_sdist(sdist(tmp_path, at("shop"), *folders))


def test_damaged_archives(tmp_path: Path) -> None:
    """An archive that is cut, or has a header that is none in the middle, is refused whole."""
    whole = gzip.decompress(sdist(tmp_path, at("shop")).read_bytes())
    second = whole.index(b"shop-1.0/shop/")
    cuts = [
        gzip.compress(whole)[:-20],
        gzip.compress(whole[:second]),
        gzip.compress(whole[:second] + b"garbage!" + whole[second + 8 :]),
        gzip.compress(whole + b"more"),
        b"nonsense",
    ]
    for data in cuts:
        path = tmp_path / "shop-1.0.tar.gz"
        path.write_bytes(data)
        with pytest.raises(SourceError) as caught:
            read_sdist(path)
        assert caught.value.code == "ZDP-004"


def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for its index."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_release_without_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """name==version takes the sdist where there is no wheel: once, without running its setup."""
    made = sdist(shelf(tmp_path, monkeypatch), {**at("src/shop"), **EVIL})
    monkeypatch.chdir(tmp_path)
    source = read_source("shop==1.0", cache=tmp_path / "cache", here=tmp_path)
    assert source.files == at("shop")
    assert source.origin == "shop==1.0"
    made.unlink()
    assert read_source("Shop==1.0", cache=tmp_path / "cache", here=tmp_path).files == at("shop")
    assert not list(tmp_path.rglob("ran"))


def test_release_of_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sdist whose metadata names another project is not taken for this one."""
    sdist(shelf(tmp_path, monkeypatch), {**at("shop"), "PKG-INFO": b"Name: other\nVersion: 1.0\n"})
    with pytest.raises(SourceError, match="is of other"):
        read_source("shop==1.0", cache=tmp_path / "cache", here=tmp_path)


def test_build_is_the_same_on_every_run(cli: Cli, tmp_path: Path) -> None:
    """Two sdists make the same bundle, whatever the order of their members and their times."""
    made: list[bytes] = []
    for order, seed in ((1, "1"), (-1, "2")):
        for side, text in (("old", b"VAT = 1\n"), ("new", b"VAT = 2\n")):
            (tmp_path / side).mkdir(exist_ok=True)
            files = {**at("src/shop"), "src/shop/cart.py": text, **ASIDE, **EVIL}
            sdist(tmp_path / side, dict(list(files.items())[::order]))
        ran = cli.process(
            *("build", "--from", "old/shop-1.0.tar.gz", "--to", "new/shop-1.0.tar.gz"),
            *("--app", "shop", "--seq", "1", "-o", "fix.zdp", "--json"),
            cwd=tmp_path,
            SOURCE_DATE_EPOCH="1700000000",
            PYTHONHASHSEED=seed,
        )
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["origin"]["base"] == "sdist:shop-1.0.tar.gz"
        made.append((tmp_path / "fix.zdp").read_bytes())
    assert made[0] == made[1]
    assert not list(tmp_path.rglob("ran"))


def test_what_pip_does_not_take(tmp_path: Path) -> None:
    """Where pip raises, nothing is fetched and the last line says why."""
    done = subprocess.run(
        [sys.executable, "-m", "zdpatch.cli.pip_sdist", "shop", "not a version", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "not a version" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())
