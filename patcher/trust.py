"""Bytes become a `VerifiedBundle` only through every check, in one order; nothing is compiled here.

Size and container, signatures against the roles that the safety class needs, strict parsing of the
signed bytes, the blob set, then policy: revocation, target, Python, time, sequence, relations. The
class is itself signed content, so the bytes are parsed only once they satisfy at least one class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from zdpatch.patcher import bundle, keyring, manifest
from zdpatch.patcher.errors import AuthorError, OperatorError
from zdpatch.patcher.keyring import TrustPolicy, explain, judge, match

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping, Sequence

    from zdpatch.patcher.keyring import Judged
    from zdpatch.patcher.manifest import Manifest
    from zdpatch.patcher.source import Patch

__all__ = ["Identity", "TrustPolicy", "VerifiedBundle", "reverify", "verify"]

CLOCK_SKEW_S: Final = 300  # how far in the future a bundle may have been made
KEY_WARNING_S: Final = 30 * 86400  # a key that ends within this time is worth a word


@dataclass(frozen=True, slots=True)
class Identity:
    """What this process is, from its own configuration and interpreter; never from the network."""

    app: str
    release: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    python: str = ""  # "cp311"
    platform: str = ""  # "linux_x86_64"


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle that passed every check; `digest` (sha256 of the signed bytes) is its identity."""

    digest: str
    manifest: Manifest
    blobs: Mapping[str, bytes]
    signed_by: Mapping[str, Sequence[str]]
    warnings: Sequence[str] = ()

    def patch(self) -> Patch:
        """What the engine is asked to do."""
        return manifest.patch_of(self.manifest, self.blobs)


def verify(  # noqa: PLR0913 - a decision without I/O is handed all it depends on
    raw: bytes,
    trust: TrustPolicy,
    identity: Identity,
    *,
    now: int,
    floor: int,
    known: Container[str],
    active: Collection[str],
) -> VerifiedBundle:
    """Decide whether `raw` may be applied in the process `identity` at `now` (seconds since 1970).

    `floor` is the highest sequence number accepted so far, `known` the digests accepted before
    (they may come again), `active` the ids of the patches in place. Raises ZdpatchError ZDP-101 to
    ZDP-116.
    """
    found = _authenticate(raw, trust, now)
    claim = found.manifest
    _check_revoked(found, trust)
    _check_target(claim, identity)
    _check_time(claim, now)
    _check_sequence(found, trust, floor, known)
    _check_relations(claim, active)
    manifest.unsupported(claim)
    return found


def reverify(
    raw: bytes, trust: TrustPolicy, identity: Identity, *, accepted_at: int, now: int | None = None
) -> VerifiedBundle:
    """Check a bundle accepted at `accepted_at` again, to rebuild a process from its journal.

    Keys count if they were good then; revocation counts as of today. Expiry takes no running patch
    out: when `now` is given and past the bundle's end, that is a warning. Raises as `verify`.
    """
    found = _authenticate(raw, trust, accepted_at)
    _check_revoked(found, trust)
    _check_target(found.manifest, identity)
    manifest.unsupported(found.manifest)
    end = found.manifest.not_after
    if now is None or now <= end:
        return found
    warnings = (*found.warnings, stale(found.manifest.id, end))
    return VerifiedBundle(found.digest, found.manifest, found.blobs, found.signed_by, warnings)


def stale(patch: str, end: int) -> str:
    """What is said of a patch that runs past its end."""
    return (
        f"{patch} expired on {keyring.day(end)} and stays in: its fix should be in a release by"
        f" now (zdpatch export {patch})"
    )


def _authenticate(raw: bytes, trust: TrustPolicy, at: int) -> VerifiedBundle:
    """Container, signatures, signed bytes, blobs: all that does not depend on the process."""
    container = bundle.unpack(raw)
    envelope = bundle.parse_envelope(container.envelope)
    judged = judge(envelope, trust, at)
    _require_any_class(judged, trust)
    claim = manifest.decode(envelope.payload)
    signed_by = _require_class(claim.safety, judged, trust)
    bundle.check_blobs(claim, container.blobs)
    return VerifiedBundle(
        envelope.digest, claim, container.blobs, signed_by, tuple(_warnings(judged, trust, at))
    )


def _require_any_class(judged: Sequence[Judged], trust: TrustPolicy) -> None:
    """Before the signed bytes are parsed, they must satisfy at least one class."""
    if not judged:
        raise OperatorError(
            "ZDP-103", "the bundle is not signed", next="zdpatch sign FILE --key KEY"
        )
    if not trust.policy:
        raise OperatorError(
            "ZDP-113",
            "the trust file accepts no safety class at all",
            next="zdpatch trust init",
        )
    results = {safety: match(roles, judged, trust) for safety, roles in trust.policy.items()}
    if all(result.missing for result in results.values()):
        safety = min(results, key=lambda name: sum(results[name].missing.values()))
        raise _not_enough(f"even class {safety} needs", results[safety], judged, trust)


def _require_class(
    safety: str, judged: Sequence[Judged], trust: TrustPolicy
) -> dict[str, list[str]]:
    """The key ids by role for the class that was signed."""
    if safety not in trust.policy:
        raise OperatorError(
            "ZDP-103",
            f"the trust file has no rule for bundles of class {safety}",
            next=f"zdpatch trust init --policy {safety}=ROLE, on the trust file of the agent",
        )
    result = match(trust.policy[safety], judged, trust)
    if result.missing:
        raise _not_enough(f"class {safety} needs", result, judged, trust)
    return result.signed_by


def _not_enough(
    need: str, result: keyring.Match, judged: Sequence[Judged], trust: TrustPolicy
) -> OperatorError:
    role = min(result.missing)
    usable = trust.usable(role)
    if usable < trust.roles[role].threshold:
        hint = f"zdpatch trust add --role {role} --key KEY.pub, on the trust file of the agent"
    else:
        hint = f"zdpatch sign FILE --key KEY, with a key of role {role}"
    return OperatorError("ZDP-103", f"{need} {explain(result, judged, trust)}", next=hint)


def _warnings(judged: Sequence[Judged], trust: TrustPolicy, at: int) -> list[str]:
    """What did not decide, but a person should know."""
    found: list[str] = []
    for one in judged:
        if one.state != "valid":
            found.append(f"a signature did not count: {one.label}, {one.state}")
        elif (end := trust.keys[one.keyid].not_after) < at + KEY_WARNING_S:
            found.append(f"the key {one.label} expires on {keyring.day(end)}")
    return found


def _check_revoked(found: VerifiedBundle, trust: TrustPolicy) -> None:
    if found.digest in trust.revoked:
        raise OperatorError(
            "ZDP-112", f"{found.manifest.id} ({found.digest[:12]}) was revoked in the trust file"
        )


def _check_target(claim: Manifest, identity: Identity) -> None:
    target = claim.target
    if target.app != identity.app:
        raise AuthorError(
            "ZDP-107",
            f"the bundle is for {target.app}; this is {identity.app}",
            next="zdpatch status",
        )
    if target.release is not None and target.release != identity.release:
        raise AuthorError(
            "ZDP-107",
            f"the bundle is for release {target.release}; this is {identity.release or 'unnamed'}",
        )
    for name, value in sorted(target.labels.items()):
        if identity.labels.get(name) != value:
            here = identity.labels.get(name, "unset")
            raise AuthorError("ZDP-107", f"the bundle is for {name}={value}; here it is {here}")
    if identity.python not in claim.python:
        made_for = ", ".join(claim.python)
        raise AuthorError("ZDP-108", f"the bundle is for {made_for}; this is {identity.python}")
    if claim.platform is not None and claim.platform != identity.platform:
        raise AuthorError(
            "ZDP-108",
            f"the bundle is for {claim.platform}; this is {identity.platform or 'unknown'}",
        )


def _check_time(claim: Manifest, now: int) -> None:
    if now > claim.not_after:
        raise AuthorError(
            "ZDP-109", f"{claim.id} expired on {keyring.day(claim.not_after)}", next="zdpatch build"
        )
    if claim.created > now + CLOCK_SKEW_S:
        ahead = claim.created - now
        raise AuthorError(
            "ZDP-110", f"{claim.id} was made {ahead} s in the future: one of two clocks is wrong"
        )


def _check_sequence(
    found: VerifiedBundle, trust: TrustPolicy, floor: int, known: Container[str]
) -> None:
    """An old bundle, though rightly signed, may carry the hole that a later one closed."""
    claim = found.manifest
    least = trust.min_seq.get(claim.target.app, 0)
    if claim.seq < least:
        raise AuthorError(
            "ZDP-111",
            f"{claim.id} has sequence number {claim.seq}; the trust file asks for {least} or more",
            next="zdpatch build",
        )
    if claim.seq <= floor and found.digest not in known:
        raise AuthorError(
            "ZDP-111",
            f"{claim.id} has sequence number {claim.seq}; {floor} was accepted before",
            next="zdpatch build",
        )


def _check_relations(claim: Manifest, active: Collection[str]) -> None:
    missing = [name for name in claim.requires if name not in active]
    if missing:
        raise AuthorError(
            "ZDP-116",
            f"{claim.id} requires {', '.join(missing)}, not active here",
            next="zdpatch push the required bundle first",
        )
    clashing = [name for name in claim.conflicts if name in active]
    if clashing:
        raise AuthorError(
            "ZDP-116",
            f"{claim.id} conflicts with {', '.join(clashing)}, active here",
            next=f"zdpatch rollback {clashing[0]}",
        )
