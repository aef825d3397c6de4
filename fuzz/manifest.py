"""Fuzz the readers of statements and trust files: one spelling and one meaning, or a refusal.

pip install atheris
python fuzz/manifest.py -max_total_time=60
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zdpatch"]):
    from zdpatch.patcher import bundle, manifest
    from zdpatch.patcher.errors import ZdpatchError
    from zdpatch.patcher.keyring import Role, TrustPolicy
    from zdpatch.patcher.manifest import Manifest, Origin, Target
    from zdpatch.patcher.source import ModuleChange


def seeds() -> list[bytes]:
    """A statement and a trust file that are good."""
    entries, _, blobs = manifest.describe(
        [ModuleChange("a.b", "a/b.py", False, b"x = 1", b"x = 2")]
    )
    statement = bundle.build_statement(
        Manifest(
            id="FIX-1",
            seq=1,
            target=Target(app="shop", labels={"zone": "a"}),
            python=["cp311"],
            created=1,
            not_after=2,
            safety="low",
            modules=entries,
            origin=Origin(base="directory", new="directory"),
            fixes=["CVE-2025-27516"],
        ),
        blobs,
    )
    roles = {"ci": Role(keyids=[], threshold=1)}
    return [statement, TrustPolicy(roles=roles, policy={"low": ["ci"]}).dump()]


def one_input(data: bytes) -> None:
    """Read `data` as a signed statement and as a trust file."""
    with contextlib.suppress(ZdpatchError):
        assert manifest.encode(manifest.decode(data)) == data
    with contextlib.suppress(ZdpatchError):
        policy = TrustPolicy.load(data)
        assert TrustPolicy.load(policy.dump()) == policy


def main() -> None:
    """Fuzz from the seeds until interrupted, or for as long as libFuzzer's flags say."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
