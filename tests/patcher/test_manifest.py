"""A manifest is accepted in one form, with every field in bounds, or refused with its reason."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from zdpatch.patcher import bundle, manifest
from zdpatch.patcher.attached import Probe
from zdpatch.patcher.errors import ZdpatchError
from zdpatch.patcher.manifest import ModuleEntry, Target
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Mint

A, B = "a" * 64, "b" * 64


def code_of(call: Callable[[], object]) -> str:
    """The id with which `call` is refused."""
    with pytest.raises(ZdpatchError) as caught:
        call()
    return caught.value.code


def statement(mint: Mint) -> dict[str, Any]:
    """A good statement as JSON types, to be spoilt."""
    manifest_, container = bundle.read_unverified(mint.bundle())
    assert set(manifest_.blobs) == set(container.blobs)
    loaded: dict[str, Any] = json.loads(manifest.encode(manifest_))
    return loaded


def test_round_trip(mint: Mint) -> None:
    """What is decoded encodes to the same bytes."""
    payload = manifest.canonical(statement(mint))
    assert manifest.encode(manifest.decode(payload)) == payload


def test_changes_and_describe_are_inverse(mint: Mint) -> None:
    """The sources of a patch go through manifest and blobs unchanged, whatever their state."""
    given = (
        ModuleChange("a", "a/__init__.py", True, b"", b""),
        ModuleChange("a.b", "a/b.py", False, None, b"x = '\xe9'\r\n"),
        ModuleChange("a.c", "a/c.py", False, b"# -*- coding: latin-1 -*-\n", None),
    )
    made, container = bundle.read_unverified(mint.bundle(changes=reversed(given)))
    assert manifest.patch_of(made, container.blobs).changes == given
    assert [entry.state for entry in made.modules] == ["follows", "added", "removed"]


def test_changed_state(mint: Mint) -> None:
    """A module with other source afterwards is called changed."""
    assert mint.manifest().modules[1].state == "changed"


def test_build_sorts_lists(mint: Mint) -> None:
    """The author may list in any order; the bytes are the same."""
    one = mint.bundle(fixes=["CVE-2", "CVE-1", "CVE-2"], python=["cp312", "cp311"])
    assert one == mint.bundle(fixes=["CVE-1", "CVE-2"], python=["cp311", "cp312"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "urn:zdpatch:patch:v2"),
        (("extra",), 1),
        (("predicate", "extra"), 1),
        (("predicate", "schema"), 2),
        (("predicate", "schema"), True),
        (("predicate", "schema"), 1.0),
        (("predicate", "id"), "fix-1"),
        (("predicate", "id"), ""),
        (("predicate", "id"), "-FIX"),
        (("predicate", "id"), "A" * 41),
        (("predicate", "id"), "FIX\n"),
        (("predicate", "id"), "FIX/../X"),
        (("predicate", "seq"), 0),
        (("predicate", "seq"), -1),
        (("predicate", "seq"), 1 << 53),
        (("predicate", "seq"), "7"),
        (("predicate", "seq"), 7.0),
        (("predicate", "seq"), None),
        (("predicate", "created"), -1),
        (("predicate", "created"), 10**20),
        (("predicate", "not_after"), 253402300800),
        (("predicate", "not_after"), 1),  # before created
        (("predicate", "safety"), "none"),
        (("predicate", "safety"), "*"),
        (("predicate", "python"), []),
        (("predicate", "python"), ["cp311", "cp311"]),
        (("predicate", "python"), ["cp312", "cp311"]),
        (("predicate", "python"), ["py3"]),
        (("predicate", "platform"), "Linux x"),
        (("predicate", "target", "app"), ""),
        (("predicate", "target", "app"), "a" * 201),
        (("predicate", "target", "app"), "shop\x1b[2J"),
        (("predicate", "target", "app"), "shop\u202egro"),
        (("predicate", "target", "app"), "shop\u2028x"),
        (("predicate", "target", "labels"), {"zone\n": "a"}),
        (("predicate", "target", "labels"), {"zone": "a\r"}),
        (("predicate", "target", "labels"), {f"k{n}": "" for n in range(33)}),
        (("predicate", "target", "extra"), 1),
        (("predicate", "modules"), []),
        (("predicate", "requires"), ["FIX-1"]),
        (("predicate", "conflicts"), ["FIX-1"]),
        (("predicate", "supersedes"), ["FIX-1"]),
        (("predicate", "requires"), ["B", "A"]),
        (("predicate", "requires"), ["not an id"]),
        (("predicate", "fixes"), ["CVE 1"]),
        (("predicate", "fixes"), ["B", "A"]),
        (("predicate", "replace_all"), 1),
        (("predicate", "bake_s"), -1),
        (("predicate", "notes"), "two\nlines"),
        (("predicate", "notes"), "a" * 4001),
        (("predicate", "tools"), {"zdpatch": 1}),
        (("predicate", "provenance"), None),
        (("predicate", "provenance", "commit"), "\x00"),
        (("predicate", "origin", "base"), ""),
        (("predicate", "sbom"), A),
        (("predicate", "blobs"), {}),
        (("predicate", "blobs", A), {"size": 1}),
        (("predicate", "blobs", "A" * 64), {"size": 1}),
        (("predicate", "modules", 0, "name"), "shop.cart"),
        (("predicate", "modules", 0, "name"), "shop..cart"),
        (("predicate", "modules", 0, "name"), "shop/cart"),
        (("predicate", "modules", 0, "name"), "1shop"),
        (("predicate", "modules", 0, "path"), "/shop/__init__.py"),
        (("predicate", "modules", 0, "path"), "../shop/__init__.py"),
        (("predicate", "modules", 0, "path"), "./shop/__init__.py"),
        (("predicate", "modules", 0, "path"), "shop\\__init__.py"),
        (("predicate", "modules", 0, "path"), "other/__init__.py"),
        (("predicate", "modules", 0, "package"), False),
        (("predicate", "modules", 0, "base"), "sha256:" + A),
        (("predicate", "modules", 0, "new"), B),
    ],
)
def test_field_out_of_bounds(mint: Mint, path: tuple[str | int, ...], value: object) -> None:
    """Every field has its type, its bounds and its place; what does not fit is refused by name."""
    spoilt = statement(mint)
    place: Any = spoilt
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    payload = json.dumps(spoilt, sort_keys=True, separators=(",", ":")).encode()
    # A float is in bounds for the decoder, and then not canonical.
    expected = {"ZDP-104", "ZDP-105"} if isinstance(value, float) else {"ZDP-105"}
    assert code_of(lambda: manifest.decode(payload)) in expected


@pytest.mark.parametrize("key", ["id", "seq", "target", "python", "safety", "modules", "origin"])
def test_missing_field(mint: Mint, key: str) -> None:
    """A required field cannot be left out."""
    spoilt = statement(mint)
    del spoilt["predicate"][key]
    assert code_of(lambda: manifest.decode(manifest.canonical(spoilt))) == "ZDP-105"


@pytest.mark.parametrize("key", ["notes", "probes", "replace_all", "schema", "requires"])
def test_optional_field_is_still_written(mint: Mint, key: str) -> None:
    """There is one spelling, so even a field at its default is in the signed bytes."""
    spoilt = statement(mint)
    del spoilt["predicate"][key]
    assert code_of(lambda: manifest.decode(manifest.canonical(spoilt))) == "ZDP-104"


@pytest.mark.parametrize(
    "change",
    [
        (b'{"_type"', b'{ "_type"'),
        (b'"seq":7', b'"seq":7,"seq":7'),
        (b'"seq":7', b'"seq":8,"seq":7'),
        (b'"seq":7', b'"seq":7e0'),
        (b'"notes":""', b'"notes":"\\u0041"'),
        (b'"notes":""', b'"notes":"\xc3\xa9"'),
        (b'"seq":7', b'"seq":NaN'),
        (b'"seq":7', b'"seq":' + b"9" * 5000),
        (b'"name":"base/shop/cart.py"', b'"name":"base/shop/cart.pz"'),
        (b"base/shop/__init__.py", b"other"),
    ],
)
def test_another_spelling(mint: Mint, change: tuple[bytes, bytes]) -> None:
    """Duplicate keys, spaces, NaN, huge or escaped values, foreign subjects: one spelling only."""
    payload = manifest.canonical(statement(mint))
    changed = payload.replace(*change)
    assert changed != payload
    assert code_of(lambda: manifest.decode(changed)) in {"ZDP-104", "ZDP-105"}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"[" * 200_000,
        b'{"predicate":' * 50_000,
        b'{"predicate":{"target":{"labels":' + b'{"a":' * 50_000,
        b'{"\xff":1}',
        b'{"_type":"\\ud800"}',
        b"\xef\xbb\xbf{}",
        b"{}\0",
    ],
)
def test_deep_or_broken_json(payload: bytes) -> None:
    """Depth, broken encodings and other types are refusals, never a crash."""
    assert code_of(lambda: manifest.decode(payload)) in {"ZDP-104", "ZDP-105"}


def test_neither_base_nor_new(mint: Mint) -> None:
    """A module without any source asks for nothing, and is refused."""
    entry = ModuleEntry(name="shop", path="shop.py", package=False, base=None, new=None)
    broken = mint.manifest(modules=[entry])
    assert code_of(lambda: bundle.build_statement(broken, {})) == "ZDP-105"


@pytest.mark.parametrize("name", ["..", "a..b", "a.", ".a", "a b", "a/b", "\ufb01x", "a\0", ""])
def test_module_names(name: str) -> None:
    """A module's name is dotted identifiers, each in its normalised spelling."""
    assert code_of(lambda: manifest.path_of(name, package=False)) == "ZDP-105"


def test_module_path_follows_from_its_name() -> None:
    """A module is `a/b.py`, a package `a/b/__init__.py`."""
    assert manifest.path_of("a.b", package=False) == "a/b.py"
    assert manifest.path_of("a.b", package=True) == "a/b/__init__.py"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("replace_all", True),
        ("bake_s", 60),
        ("supersedes", ["FIX-0"]),
    ],
)
def test_unsupported_demands_are_refused(mint: Mint, name: str, value: object) -> None:
    """What was signed for and cannot be done is refused by name, never dropped."""
    raw = mint.made(mint.manifest(**{name: value}), "ci")
    with pytest.raises(ZdpatchError, match=name) as caught:
        mint.verify(raw)
    assert caught.value.code == "ZDP-115"


def test_supported_demands(mint: Mint) -> None:
    """An SBOM is no obstacle."""
    _, container = bundle.read_unverified(mint.bundle())
    sbom = b'{"bomFormat": "CycloneDX"}'
    digest = hashlib.sha256(sbom).hexdigest()
    made = mint.manifest(sbom=digest, target=Target(app="shop", labels={"zone": "a"}))
    raw = mint.signed(bundle.assemble(made, {**container.blobs, digest: sbom}), "ci")
    assert mint.verify(raw).blobs[digest] == sbom


def test_probes(mint: Mint) -> None:
    """A probe's source is signed for under its name; names are sorted, the time has an end."""
    source = b"EXPECT = []\n"
    probe = Probe(name="b.py", source=hashlib.sha256(source).hexdigest())
    assert mint.verify(mint.bundle("ci", more=[source], probes=[probe])).manifest.probes == [probe]
    other = msgspec.structs.replace(probe, name="a.py")
    long = [msgspec.structs.replace(probe, name=f"{n}.py", timeout_s=60) for n in "abc"]
    for probes in ([probe, other], [probe, probe], long):
        claim = manifest.encode(mint.manifest(probes=probes, blobs=probe_blob(source)))
        assert code_of(partial(manifest.decode, claim)) == "ZDP-105"
    assert code_of(lambda: mint.bundle("ci", probes=[probe])) == "ZDP-105"
    for name in ("../a.py", "a/b.py", "a.txt", "é.py"):
        odd = [msgspec.structs.replace(probe, name=name)]
        assert code_of(partial(mint.bundle, more=[source], probes=odd)) == "ZDP-105"


def probe_blob(source: bytes) -> dict[str, manifest.Blob]:
    """The blobs of a manifest that has nothing else."""
    return {hashlib.sha256(source).hexdigest(): manifest.Blob(size=len(source))}
