"""Nothing unverified is kept, and nothing kept is believed: every use verifies the bytes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from zdpatch.agent import children
from zdpatch.agent.ledger import Facts, Wanted
from zdpatch.agent.preflight import preflight
from zdpatch.agent.protocol import StageResult
from zdpatch.patcher.adoption import Adoption
from zdpatch.patcher.errors import AuthorError, OperatorError, ProcessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zdpatch.agent.audit import Actor
    from zdpatch.agent.here import Here
    from zdpatch.agent.ledger import Ledger
    from zdpatch.agent.protocol import Plan, Stage
    from zdpatch.patcher.trust import VerifiedBundle

_IN_MEMORY: Final = 8  # verified bundles kept from stage to apply; the rest is read from disk
_REF_CHARS: Final = 8  # of a digest, at least


def stage(here: Here, header: Stage, raw: bytes, by: Actor) -> StageResult:
    """Verify a bundle and keep it. Raises ZdpatchError ZDP-101 to ZDP-116, ZDP-301."""
    bundle = _verify(here, raw)
    if bundle.digest != header.digest:
        raise AuthorError(
            "ZDP-102", f"the bundle's digest is {bundle.digest[:12]}, not {header.digest[:12]}"
        )
    name = here.journal.keep_blob(raw)
    with here.journal.write("stage") as ledger:
        old = ledger.find(bundle.digest)
        patch = _staged(ledger, bundle, name, old)
        ledger.add(patch)
        if patch.state == "staged" and (old is None or old.state != "staged"):
            ledger.log_move(patch, "" if old is None else old.state, "staged", "", by)
        ledger.note(by, "stage", "ok", patch=patch)
        dropped = _trim(ledger, here.settings.staged_patches)
    for blob in dropped:
        here.journal.drop_blob(blob)
    _remember(here, bundle.digest, raw)
    mine = here.runs(patch.digest)
    if mine is not None:
        check_still_in(here, patch.id)
    until = None if mine is None else mine.until
    return StageResult(patch.digest, patch.id, here.state_of(patch), list(bundle.warnings), until)


def plan(here: Here, header: Plan, by: Actor) -> dict[str, Any]:
    """What an apply would do; touches nothing. Raises Refused, ProcessError."""
    del by
    if (mine := here.runs(header.digest)) is not None:
        check_still_in(here, mine.patch.id)
        return {
            "patch": mine.patch.id,
            "verdicts": [],
            "modules": mine.patch.facts.modules,
            "functions": 0,
            "steps": 0,
            "heap_scan": False,
            "notices": [f"already in ({mine.state}): nothing to do"],
            "deferred": [],
        }
    patch, bundle = load(here, header.digest)
    check_allowed(here, patch)
    adoption = Adoption(frozenset(header.adopt), frozenset(header.replace))
    consistent = header.consistent or bundle.manifest.consistent is not None
    drain_s = None if consistent else here.settings.drain_s
    planned = here.engine.plan(bundle.patch(), drain_s=drain_s, adoption=adoption)
    told = preflight(here, bundle)
    with here.journal.read() as ledger:
        words = children.not_covered(children.spawned(ledger.pids()))
    summary: dict[str, Any] = msgspec.to_builtins(planned.summary())
    if consistent:
        summary["consistent"] = msgspec.to_builtins(here.engine.foresee(planned))
    if words or told:
        summary["notices"] = [*summary.get("notices", ()), *told, *([words] if words else [])]
    return summary


def check_still_in(here: Here, patch_id: str) -> None:
    """Raises ProcessError ZDP-209 when somebody took back what the patch had set."""
    if changed := here.engine.set_back().get(patch_id):
        raise ProcessError(
            "ZDP-209",
            f"{patch_id} went in, and somebody has changed since: {'; '.join(changed)}",
            next="replace the worker",
        )


def load(here: Here, digest: str) -> tuple[Wanted, VerifiedBundle]:
    """A staged patch, verified as of now. Raises ProcessError ZDP-212 and what `stage` raises."""
    with here.journal.read() as ledger:
        patch = ledger.find(digest)
    if patch is None:
        raise ProcessError("ZDP-212", f"{digest[:12]} is not staged here", next="zdpatch push FILE")
    raw = here.staged.get(digest) or here.journal.blob(patch.blob)
    bundle = _verify(here, raw)
    if bundle.digest != digest:
        raise OperatorError("ZDP-301", f"the bytes kept for {patch.id} are another bundle")
    return patch, bundle


def still_trusted(here: Here, patch: Wanted) -> VerifiedBundle:
    """A bundle that came in before, verified again. Raises ZdpatchError ZDP-101 to ZDP-116."""
    raw = here.journal.blob(patch.blob)
    return here.verifier.reverify(raw, accepted_at=patch.accepted_at, now=here.clock.wall())


def check_allowed(here: Here, patch: Wanted) -> None:
    """Whether anything may come in, and this patch. Raises ProcessError.

    A plan asks too: what it allows, the apply that follows must not refuse.
    """
    if here.no_apply:
        raise ProcessError("ZDP-213", "this process was started with ZDPATCH=no-apply")
    with here.journal.read() as ledger:
        held = ledger.held()
    if held is not None:
        raise ProcessError(
            "ZDP-213", f"applies are held by {held.by}: {held.reason}", next="zdpatch hold --off"
        )
    if patch.state == "quarantined":
        raise ProcessError(
            "ZDP-303", f"{patch.id}: {patch.reason}", next=f"zdpatch rollback {patch.id}"
        )
    if patch.id in here.active():
        raise ProcessError(
            "ZDP-204",
            f"another bundle called {patch.id} is in",
            next=f"zdpatch rollback {patch.id}",
        )


def find(ledger: Ledger, ref: str) -> Wanted:
    """The one patch with this id or digest. Raises ProcessError ZDP-212.

    An id wins over a digest; of several bundles with one id, the one applied last is meant.
    """
    return named(ledger.wanted(), ref)


def named(patches: Sequence[Wanted], ref: str) -> Wanted:
    """The same, of these patches."""
    applied = [patch for patch in patches if patch.id == ref.upper() and patch.place]
    if applied:
        return applied[-1]
    found = [patch for patch in patches if patch.id == ref.upper()]
    if not found and len(ref) >= _REF_CHARS:
        found = [patch for patch in patches if patch.digest.startswith(ref.lower())]
    if len(found) != 1:
        cause = f"{len(found)} patches are called" if found else "there is no patch"
        raise ProcessError("ZDP-212", f"{cause} {ref!r} here", next="zdpatch status")
    return found[0]


def _verify(here: Here, raw: bytes) -> VerifiedBundle:
    with here.journal.read() as ledger:
        floor, known = ledger.floor(), ledger.known()
    return here.verifier.verify(
        raw, now=here.clock.wall(), floor=floor, known=known, active=here.active()
    )


def _staged(ledger: Ledger, bundle: VerifiedBundle, blob: str, old: Wanted | None) -> Wanted:
    manifest = bundle.manifest
    fresh = old is None or old.state == "refused"
    return Wanted(
        digest=bundle.digest,
        id=manifest.id,
        seq=manifest.seq,
        state="staged" if old is None or fresh else old.state,
        place=0 if old is None else old.place,
        blob=blob,
        accepted_at=ledger.now,
        since=ledger.now if old is None or fresh else old.since,
        until=None if old is None else old.until,
        crashes=0 if old is None else old.crashes,
        reason="" if old is None or fresh else old.reason,
        facts=Facts(
            fixes=list(manifest.fixes),
            origin={"base": manifest.origin.base, "new": manifest.origin.new},
            modules=[entry.name for entry in manifest.modules],
            signed_by={role: list(keys) for role, keys in bundle.signed_by.items()},
        ),
    )


def _trim(ledger: Ledger, limit: int) -> list[str]:
    """Forget the oldest patches that were only ever staged; blobs nobody needs any more."""
    waiting = [patch for patch in ledger.wanted() if patch.state == "staged" and not patch.place]
    old = waiting[: max(0, len(waiting) - limit)]
    for patch in old:
        ledger.forget(patch.digest)
    return [patch.blob for patch in old if not ledger.blob_is_used(patch.blob)]


def _remember(here: Here, digest: str, raw: bytes) -> None:
    here.staged.pop(digest, None)
    here.staged[digest] = raw
    while len(here.staged) > _IN_MEMORY:
        del here.staged[next(iter(here.staged))]
