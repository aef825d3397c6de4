"""Every decision about a bundle reads the trust file again, so a revocation counts from then on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from zdpatch.agent import later
from zdpatch.agent.ledger import SYSTEM
from zdpatch.agent.trustfile import parse_trust, read_trust
from zdpatch.patcher import roots, trust
from zdpatch.patcher.errors import OperatorError, ZdpatchError
from zdpatch.patcher.keyring import day

if TYPE_CHECKING:
    from collections.abc import Collection, Container
    from pathlib import Path

    from zdpatch.agent.identity import Identity
    from zdpatch.agent.journal import Journal
    from zdpatch.patcher.keyring import TrustPolicy
    from zdpatch.patcher.roots import Rooted
    from zdpatch.patcher.trust import VerifiedBundle


_CHAIN: Final = b'"chain"'


class Verifier:
    """Holds bundles against the trust file and this process's own identity.

    `journal` remembers the last root document that was accepted, when there are roots.
    """

    def __init__(self, path: Path, identity: Identity, journal: Journal | None = None) -> None:
        self._path: Final = path
        self._journal: Final = journal
        self._identity: Final = trust.Identity(
            app=identity.app,
            release=identity.release,
            labels=dict(identity.labels),
            python=identity.python,
            platform=identity.platform,
        )

    def doubt(self, now: float) -> ZdpatchError | None:
        """Why no bundle can be trusted here, when that is so."""
        try:
            self._for_new(now)
        except ZdpatchError as error:
            return error
        return None

    def ends_soon(self, now: float) -> str:
        """A word about roots that end within a month; "" when there is none to say."""
        try:
            rooted = self._read()[1]
        except ZdpatchError:
            return ""
        if rooted is None or not now <= rooted.expires < now + trust.KEY_WARNING_S:
            return ""
        return f"the roots of trust end on {day(rooted.expires)}: zdpatch trust rotate"

    def verify(
        self,
        raw: bytes,
        *,
        now: float,
        floor: int,
        known: Container[str],
        active: Collection[str],
    ) -> VerifiedBundle:
        """Decide about a bundle that asks to come in. Raises ZdpatchError ZDP-101 to ZDP-118."""
        later.need(later.SIGNATURES)
        return trust.verify(
            raw,
            self._for_new(now),
            self._identity,
            now=int(now),
            floor=floor,
            known=known,
            active=active,
        )

    def reverify(self, raw: bytes, *, accepted_at: float, now: float) -> VerifiedBundle:
        """Decide about a bundle that came in at `accepted_at`. Raises as `verify`, but ZDP-118:
        an end of the roots takes nothing out.
        """
        later.need(later.SIGNATURES)
        return trust.reverify(
            raw,
            self._read()[0],
            self._identity,
            accepted_at=int(accepted_at),
            now=int(now),
        )

    def _for_new(self, now: float) -> TrustPolicy:
        policy, rooted = self._read()
        if rooted is not None and rooted.expires < now:
            raise OperatorError(
                "ZDP-118",
                f"root document {rooted.version} ended on {day(rooted.expires)}: what runs stays,"
                " nothing new comes in",
                next="zdpatch trust rotate",
            )
        return policy

    def _read(self) -> tuple[TrustPolicy, Rooted | None]:
        """The file as it is now; a chain must go on from the one that was accepted here before."""
        raw = read_trust(self._path)
        if _CHAIN in raw:
            later.need(later.SIGNATURES)
        policy, rooted = parse_trust(self._path, raw)
        if self._journal is not None:
            _hold(self._journal, rooted)
        return policy, rooted


def _hold(journal: Journal, rooted: Rooted | None) -> None:
    """Raises OperatorError ZDP-117, and ZDP-301 when it cannot be known what was accepted."""
    with journal.read() as ledger:
        pinned = ledger.pinned()
    if pinned is not None:
        roots.check_pinned(rooted, *pinned)
    if rooted is None or (pinned is not None and pinned[0] == rooted.version):
        return
    with contextlib.suppress(OperatorError), journal.write("trust") as ledger:  # no room: later
        now = ledger.pinned()
        if now is None or now[0] < rooted.version:
            ledger.pin(rooted.version, rooted.digests[rooted.version])
            ledger.note(SYSTEM, "trust", "ok", detail=f"root document {rooted.version}")
