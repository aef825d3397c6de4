"""A key id is always computed from its key, and one key fills at most one place of one decision.

The trust policy as a file holds it, what each signature is worth under it, and whether the worth
together meets the roles of a safety class.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

import msgspec
from msgspec import Meta

from zdpatch.patcher import signing
from zdpatch.patcher.attached import Hex  # noqa: TC001 - msgspec reads it at run time
from zdpatch.patcher.errors import OperatorError
from zdpatch.patcher.manifest import LAST_SECOND, MAX_SEQ, Safety

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zdpatch.patcher.bundle import Envelope

MAX_TRUST: Final = 1 << 20  # bytes of a trust file

RoleName = Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,31}$", max_length=32)]


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public key in hexadecimal, a name for people, the second after which it stops counting."""

    public: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    not_after: Annotated[int, Meta(ge=0, le=LAST_SECOND)]


class Role(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """So many of these keys must sign."""

    keyids: Annotated[list[Hex], Meta(max_length=64)]
    threshold: Annotated[int, Meta(ge=1, le=64)]


class TrustPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose signatures count, and for what.

    `version` counts the changes of the file. `policy` says which roles a safety class needs, all
    of them. `revoked` holds digests of bundles and ids of keys; `min_seq` the least sequence
    number per app. A role with fewer usable keys than its threshold cannot be met: whatever needs
    it is refused.
    """

    version: Annotated[int, Meta(ge=1, le=MAX_SEQ)] = 1
    keys: dict[Hex, Key] = msgspec.field(default_factory=dict[str, Key])
    roles: dict[RoleName, Role] = msgspec.field(default_factory=dict[str, Role])
    policy: dict[Safety, Annotated[list[RoleName], Meta(min_length=1, max_length=16)]]
    revoked: list[Hex] = msgspec.field(default_factory=list[str])
    min_seq: dict[str, Annotated[int, Meta(ge=0, le=MAX_SEQ)]] = msgspec.field(
        default_factory=dict[str, int]
    )

    @classmethod
    def load(cls, raw: bytes) -> Self:
        """Read the file's bytes. Raises OperatorError ZDP-114 unless they are exactly a policy."""
        if len(raw) > MAX_TRUST:
            raise _unsafe(f"the trust file has {len(raw)} bytes, at most {MAX_TRUST} are read")
        try:
            parsed: object = json.loads(
                raw.decode("utf-8"), object_pairs_hook=_distinct, parse_constant=_no_constant
            )
            policy = msgspec.convert(parsed, cls)
        except (ValueError, RecursionError, msgspec.ValidationError) as error:
            raise _unsafe(f"the trust file is malformed: {error}"[:300]) from None
        policy.check()
        return policy

    def dump(self) -> bytes:
        """The file's bytes: JSON for people to read and to keep under version control."""
        return json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True).encode() + b"\n"

    def check(self) -> None:
        """Raise OperatorError ZDP-114 unless the parts fit together."""
        for keyid, key in self.keys.items():
            try:
                computed = signing.keyid(key.public)
            except ValueError as error:
                raise _unsafe(f"key {key.name!a}: {error}") from None
            if computed != keyid:
                raise _unsafe(f"key {key.name!a} is listed under an id which is not its own")
            if not key.name.isprintable():
                raise _unsafe(f"the name {key.name!a} of a key cannot be printed")
        for name, role in self.roles.items():
            if len(set(role.keyids)) != len(role.keyids):
                raise _unsafe(f"role {name} lists a key twice")
            if not set(role.keyids) <= set(self.keys):
                raise _unsafe(f"role {name} lists a key which the file does not hold")
        for safety, roles in self.policy.items():
            if len(set(roles)) != len(roles):
                raise _unsafe(f"class {safety} lists a role twice")
            for name in roles:
                if name not in self.roles:
                    raise _unsafe(f"class {safety} needs the role {name}, which does not exist")

    def usable(self, role: str) -> int:
        """How many distinct keys of a role are not revoked."""
        keys = {self.keys[k].public for k in self.roles[role].keyids if k not in self.revoked}
        return len(keys)

    def short_roles(self) -> list[str]:
        """Roles that cannot be met, however many people sign, and are needed by some class."""
        needed = {name for roles in self.policy.values() for name in roles}
        return sorted(name for name in needed if self.usable(name) < self.roles[name].threshold)


def _unsafe(cause: str) -> OperatorError:
    return OperatorError("ZDP-114", cause, next="zdpatch trust show")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is written twice in one object")
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


@dataclass(frozen=True, slots=True)
class Judged:
    """What one signature is worth. `label` is the key's name and the start of its id."""

    keyid: str
    label: str
    state: Literal[
        "valid", "unknown key", "expired key", "revoked key", "bad signature", "not judged"
    ]


def judge(envelope: Envelope, trust: TrustPolicy, at: int) -> list[Judged]:
    """Look at every signature once, as of the second `at`."""
    return [
        Judged(keyid, _label(keyid, trust), _state(keyid, signature, envelope.message, trust, at))
        for keyid, signature in envelope.signatures
    ]


def _label(keyid: str, trust: TrustPolicy) -> str:
    known = trust.keys.get(keyid)
    return f"{known.name} ({keyid[:8]})" if known else keyid[:8]


def _state(
    keyid: str, signature: bytes, message: bytes, trust: TrustPolicy, at: int
) -> Literal["valid", "unknown key", "expired key", "revoked key", "bad signature"]:
    key = trust.keys.get(keyid)
    if key is None:
        return "unknown key"
    if keyid in trust.revoked:
        return "revoked key"
    if not signing.verify_signature(key.public, message, signature):
        return "bad signature"
    return "expired key" if key.not_after < at else "valid"


@dataclass(frozen=True, slots=True)
class Match:
    """Which keys fill which role, and how many are missing where (empty: all roles are met)."""

    signed_by: dict[str, list[str]]
    missing: dict[str, int]


def match(roles: Iterable[str], judged: Sequence[Judged], trust: TrustPolicy) -> Match:
    """Give each valid key to one role so that as many places as possible are filled.

    A key listed in two roles is one person: it fills one of them, whichever helps (augmenting
    paths).
    """
    # By key bytes: two ids for one key would otherwise be two people.
    valid = {trust.keys[one.keyid].public: one.keyid for one in judged if one.state == "valid"}
    members = {name: sorted(set(valid.values()) & set(trust.roles[name].keyids)) for name in roles}
    owner: dict[str, str] = {}

    def place(role: str, seen: set[str]) -> bool:
        for keyid in members[role]:
            if keyid in seen:
                continue
            seen.add(keyid)
            if keyid not in owner or place(owner[keyid], seen):
                owner[keyid] = role
                return True
        return False

    missing: dict[str, int] = {}
    for name in members:
        filled = sum(place(name, set()) for _ in range(trust.roles[name].threshold))
        if filled < trust.roles[name].threshold:
            missing[name] = trust.roles[name].threshold - filled
    for name, keyids in members.items():
        for keyid in keyids:
            owner.setdefault(keyid, name)
    signed_by = {name: sorted(k for k, role in owner.items() if role == name) for name in members}
    return Match(signed_by, missing)


def explain(result: Match, judged: Sequence[Judged], trust: TrustPolicy) -> str:
    """The count per role, then what each signature is worth, for a refusal's cause."""
    counts: list[str] = []
    for name in result.signed_by:
        threshold = trust.roles[name].threshold
        got = threshold - result.missing.get(name, 0)
        few = trust.usable(name)
        note = f" (the trust file has {few} usable)" if few < threshold else ""
        counts.append(f"role {name}: {got} of {threshold}{note}")
    seen = ", ".join(f"{one.label} {one.state}" for one in judged) or "nobody"
    return f"{', '.join(counts)}; signatures: {seen}"


def day(second: int) -> str:
    """A time for people: "2026-03-01 12:00 UTC"."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M UTC")
