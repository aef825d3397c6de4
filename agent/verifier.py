"""Every decision about a bundle reads the trust file again, so a revocation counts from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zdpatch.agent import later
from zdpatch.agent.trustfile import load_trust
from zdpatch.patcher import trust
from zdpatch.patcher.errors import ZdpatchError

if TYPE_CHECKING:
    from collections.abc import Collection, Container
    from pathlib import Path

    from zdpatch.agent.identity import Identity
    from zdpatch.patcher.trust import VerifiedBundle


class Verifier:
    """Holds bundles against the trust file and this process's own identity."""

    def __init__(self, path: Path, identity: Identity) -> None:
        self._path: Final = path
        self._identity: Final = trust.Identity(
            app=identity.app,
            release=identity.release,
            labels=dict(identity.labels),
            python=identity.python,
            platform=identity.platform,
        )

    def doubt(self) -> ZdpatchError | None:
        """Why no bundle can be trusted here, when that is so."""
        try:
            load_trust(self._path)
        except ZdpatchError as error:
            return error
        return None

    def verify(
        self,
        raw: bytes,
        *,
        now: float,
        floor: int,
        known: Container[str],
        active: Collection[str],
    ) -> VerifiedBundle:
        """Decide about a bundle that asks to come in. Raises ZdpatchError ZDP-101 to ZDP-116."""
        later.need(later.SIGNATURES)
        return trust.verify(
            raw,
            load_trust(self._path),
            self._identity,
            now=int(now),
            floor=floor,
            known=known,
            active=active,
        )

    def reverify(self, raw: bytes, *, accepted_at: float, now: float) -> VerifiedBundle:
        """Decide about a bundle that came in at `accepted_at`. Raises as `verify`."""
        later.need(later.SIGNATURES)
        return trust.reverify(
            raw,
            load_trust(self._path),
            self._identity,
            accepted_at=int(accepted_at),
            now=int(now),
        )
