"""Fuzz the container and envelope readers: any bytes give a value that packs to them, or a refusal.

pip install atheris
python fuzz/bundle.py -max_total_time=60
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["zdpatch"]):
    from zdpatch.patcher import bundle
    from zdpatch.patcher.errors import ZdpatchError

SEEDS = (
    bundle.pack(bundle.encode_envelope(bundle.Envelope(b"{}")), {}),
    bundle.pack(
        bundle.encode_envelope(bundle.Envelope(b"[]", (("a" * 64, b"signature"),))),
        {"b" * 64: b"x = 1\n", "c" * 64: b""},
    ),
    bundle.encode_envelope(bundle.Envelope(b"{}", (("a" * 64, bytes(64)),))),
)


def one_input(data: bytes) -> None:
    """Read `data` as a bundle file and as an envelope."""
    with contextlib.suppress(ZdpatchError):
        container = bundle.unpack(data)
        assert bundle.pack(container.envelope, container.blobs) == data
        bundle.parse_envelope(container.envelope)
    with contextlib.suppress(ZdpatchError):
        assert bundle.encode_envelope(bundle.parse_envelope(data)) == data
    with contextlib.suppress(ZdpatchError):
        bundle.read_unverified(data)


def main() -> None:
    """Fuzz from the seeds until interrupted, or for as long as libFuzzer's flags say."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
