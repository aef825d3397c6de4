"""Any manifest that can be written is accepted as it was written, and any sources survive it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from zdpatch.patcher import bundle, manifest
from zdpatch.patcher.keyring import Judged, Key, Role, TrustPolicy, match
from zdpatch.patcher.manifest import Origin, Provenance, Target
from zdpatch.patcher.source import ModuleChange

if TYPE_CHECKING:
    from tests.conftest import Mint

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp", "Zs")), max_size=40
).filter(str.isprintable)
NAME = TEXT.filter(bool)
PATCH_ID = st.from_regex(r"[A-Z0-9][A-Z0-9-]{0,9}", fullmatch=True)
PART = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
WORDS = st.dictionaries(NAME, TEXT, max_size=3)
SOURCE = st.none() | st.binary(max_size=60)


@st.composite
def changes(draw: st.DrawFn) -> tuple[ModuleChange, ...]:
    """The modules of a patch: any names, any bytes, any of them added or removed."""
    names = draw(st.sets(st.lists(PART, min_size=1, max_size=3).map(".".join), max_size=5))
    made = [
        ModuleChange(
            name,
            manifest.path_of(name, package=package),
            package,
            base,
            draw(st.binary(max_size=60)) if base is None else draw(SOURCE),
        )
        for name in sorted(names | {"always"})
        for package in [draw(st.booleans())]
        for base in [draw(SOURCE)]
    ]
    return tuple(made)


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "id": PATCH_ID.map(lambda text: "X" + text),
        "seq": st.integers(1, (1 << 53) - 1),
        "target": st.builds(Target, app=NAME, labels=WORDS, release=st.none() | NAME),
        "python": st.lists(st.integers(0, 99).map("cp3{}".format), min_size=1, max_size=4),
        "safety": st.sampled_from(["low", "normal", "high", "stateful"]),
        "requires": st.lists(PATCH_ID.map(lambda text: "R" + text), max_size=3),
        "bake_s": st.integers(0, 86400),
        "tools": WORDS,
        "provenance": st.builds(Provenance, repo=st.none() | NAME, commit=st.none() | NAME),
        "origin": st.builds(Origin, base=NAME, new=NAME),
        "fixes": st.lists(st.sampled_from(["CVE-2025-27516", "GHSA-a", "PYSEC-1"]), max_size=4),
        "notes": TEXT,
    },
)


@given(patch=changes(), fields=FIELDS)
def test_round_trip(mint: Mint, patch: tuple[ModuleChange, ...], fields: dict[str, Any]) -> None:
    """Building and reading gives the manifest that was meant, and every source byte for byte."""
    meant = msgspec.structs.replace(mint.manifest(patch), **fields)
    raw = mint.made(meant, changes=patch)
    found, container = bundle.read_unverified(raw)
    assert manifest.patch_of(found, container.blobs).changes == tuple(
        sorted(patch, key=lambda c: c.name)
    )
    assert (found.id, found.seq, found.target) == (meant.id, meant.seq, meant.target)
    assert found.fixes == sorted(set(meant.fixes))
    payload = bundle.parse_envelope(container.envelope).payload
    assert manifest.encode(found) == payload
    assert bundle.build_statement(found, container.blobs) == payload


def slowly(thresholds: dict[str, int], members: dict[str, set[str]], keys: set[str]) -> bool:
    """Whether all places can be filled, by trying every way: what `match` must agree with."""
    for role, places in thresholds.items():
        if places:
            left = thresholds | {role: places - 1}
            return any(slowly(left, members, keys - {key}) for key in members[role] & keys)
    return True


@given(
    roles=st.dictionaries(
        st.sampled_from(["ci", "approve", "audit"]),
        st.tuples(st.sets(st.integers(0, 4)), st.integers(1, 3)),
        min_size=1,
    ),
    signers=st.sets(st.integers(0, 4)),
)
def test_match_fills_all_places_when_that_is_possible(
    roles: dict[str, tuple[set[int], int]], signers: set[int]
) -> None:
    """Keys in several roles are placed so that the roles are met if they can be, and only then."""
    keyids = [hashlib.sha256(bytes([number])).hexdigest() for number in range(5)]
    policy = TrustPolicy(
        keys={keyid: Key(public=keyid, name=keyid[:4], not_after=1) for keyid in keyids},
        roles={
            name: Role(keyids=[keyids[n] for n in sorted(numbers)], threshold=threshold)
            for name, (numbers, threshold) in roles.items()
        },
        policy={"low": sorted(roles)},
    )
    judged = [Judged(keyids[number], "", "valid") for number in sorted(signers)]
    result = match(sorted(roles), judged, policy)
    members = {name: set(policy.roles[name].keyids) for name in roles}
    thresholds = {name: policy.roles[name].threshold for name in roles}
    possible = slowly(thresholds, members, {keyids[number] for number in signers})
    assert (not result.missing) == possible
    used = [keyid for filled in result.signed_by.values() for keyid in filled]
    assert len(used) == len(set(used))
    for name, filled in result.signed_by.items():
        assert set(filled) <= members[name]
        assert len(filled) >= thresholds[name] or name in result.missing
