"""`inspect` shows what a bundle claims, and keeps apart what is known from what is only claimed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec

from zdpatch.agent.trustfile import load_trust
from zdpatch.cli import trustedit
from zdpatch.cli.bundlefile import BundleFile, contents, read_bundle
from zdpatch.cli.output import Command, Output, clean, count, pass_output, table
from zdpatch.patcher import bundle as bundles
from zdpatch.patcher import keyring, manifest
from zdpatch.patcher.errors import OperatorError, ZdpatchError
from zdpatch.patcher.keyring import Judged

if TYPE_CHECKING:
    from zdpatch.patcher.keyring import TrustPolicy
    from zdpatch.patcher.manifest import DataEntry, Manifest, ModuleEntry

SCHEMA: Final = "zdpatch.inspect/v1"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one trust file makes of a bundle's signatures; without a trust file, nothing.

    `enough`: they would do for its class. `why` says it in words.
    """

    signatures: list[Judged]
    roles: dict[str, list[str]]
    enough: bool | None
    why: str


@click.command(
    "inspect",
    cls=Command,
    short_help="Show what a bundle claims and who signed it.",
    examples=["zdpatch inspect fix.zdp", "zdpatch inspect fix.zdp --json"],
)
@click.argument("bundle", metavar="BUNDLE", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--trust",
    "trust_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The trust file to judge signatures by (default: ZDPATCH_TRUST, or that of the home).",
)
@pass_output
def inspect(output: Output, /, *, bundle: Path, trust_path: Path | None) -> None:
    """Show what BUNDLE claims, and what its signatures are worth here.

    Its form, and that every blob is what the manifest says, is checked. Nothing is executed, and
    whether it can be applied is for the agents to say: `zdpatch push BUNDLE --plan`.
    """
    file = read_bundle(bundle)
    now = int(time.time())
    opinion = judged(file, trust_path or trustedit.default_trust(output.home), now)
    output.result(SCHEMA, as_json(file, opinion, now), as_lines(output, file, opinion, now))


def judged(file: BundleFile, path: Path, now: int) -> Opinion:
    """What the trust file at `path` makes of the signatures; nothing when it cannot be used."""
    envelope = bundles.parse_envelope(bundles.unpack(file.raw).envelope)
    try:
        policy = load_trust(path, trustedit.reader_of(path))
    except OperatorError as error:
        strangers = [Judged(keyid, keyid[:8], "not judged") for keyid, _ in envelope.signatures]
        return Opinion(strangers, {}, None, f"not judged: {error.cause}")
    signatures = keyring.judge(envelope, policy, now)
    roles = {
        one.keyid: sorted(name for name, role in policy.roles.items() if one.keyid in role.keyids)
        for one in signatures
    }
    enough, why = sufficiency(file.manifest, signatures, policy)
    if enough and file.digest in policy.revoked:
        enough, why = False, "this bundle was revoked"
    return Opinion(signatures, roles, enough, why)


def sufficiency(claim: Manifest, signatures: list[Judged], policy: TrustPolicy) -> tuple[bool, str]:
    """Whether the signatures do for the bundle's class, and the count per role."""
    if claim.safety not in policy.policy:
        return False, f"the trust file has no rule for class {claim.safety}"
    result = keyring.match(policy.policy[claim.safety], signatures, policy)
    return not result.missing, keyring.explain(result, signatures, policy)


def demands(claim: Manifest) -> str:
    """What it asks for that cannot be done yet; empty when there is no such thing."""
    try:
        manifest.unsupported(claim)
    except ZdpatchError as error:
        return error.cause
    return ""


def size_of(digest: str | None, claim: Manifest) -> int | None:
    """Bytes of a source; None when it is not there."""
    return None if digest is None else claim.blobs[digest].size


def as_json(file: BundleFile, opinion: Opinion, now: int) -> dict[str, object]:
    """Everything: the manifest as signed, and what was found out about it."""
    claim = file.manifest
    return {
        "file": str(file.path),
        "bytes": len(file.raw),
        "digest": file.digest,
        "id": claim.id,
        "seq": claim.seq,
        "modules": [
            {
                "name": entry.name,
                "path": entry.path,
                "state": entry.state,
                "base_bytes": size_of(entry.base, claim),
                "new_bytes": size_of(entry.new, claim),
            }
            for entry in claim.modules
        ],
        "data": [
            {
                "path": entry.path,
                "state": entry.state,
                "base_bytes": size_of(entry.base, claim),
                "new_bytes": size_of(entry.new, claim),
            }
            for entry in claim.data
        ],
        "signatures": [
            {
                "keyid": one.keyid,
                "name": one.label,
                "state": one.state,
                "roles": opinion.roles.get(one.keyid, []),
            }
            for one in opinion.signatures
        ],
        "enough": opinion.enough,
        "why": opinion.why,
        "expired": claim.not_after < now,
        "unsupported": demands(claim),
        "manifest": msgspec.to_builtins(claim),
    }


def consistent_words(claim: Manifest) -> str:
    """How it wants to go in, where that is not at one instant."""
    asked = claim.consistent
    if asked is None:
        return ""
    limit = "" if asked.limit_s is None else f", {asked.limit_s} s at most"
    then = {"flip": ", then at once", "abort": ", else not at all", None: ""}[asked.on_limit]
    return f"consistently{limit}{then}"


def as_lines(output: Output, file: BundleFile, opinion: Opinion, now: int) -> list[str]:
    """The same for people."""
    claim = file.manifest
    ended = output.paint("  expired", "red") if claim.not_after < now else ""
    facts = [
        ("patch", f"{claim.id}  number {claim.seq}  class {claim.safety}"),
        ("digest", file.digest),
        ("for", target_words(claim)),
        ("origin", f"{claim.origin.base} -> {claim.origin.new}"),
        ("created", keyring.day(claim.created)),
        ("accepted until", keyring.day(claim.not_after)),
        ("fixes", ", ".join(claim.fixes)),
        ("probes", ", ".join(probe.name for probe in claim.probes)),
        ("hooks", hook_words(claim)),
        ("requires", ", ".join(claim.requires)),
        ("conflicts with", ", ".join(claim.conflicts)),
        ("goes in", consistent_words(claim)),
        ("notes", claim.notes),
        ("built by", built_words(claim)),
        ("cannot be done", demands(claim)),
    ]
    lines = table([fact for fact in facts if fact[1]])
    lines = [line + ended if line.startswith("accepted until") else line for line in lines]
    lines += ["", f"{contents(claim)}, {len(file.raw):,} bytes"]
    lines += table([row(each, each.name, claim) for each in claim.modules])
    lines += table([row(each, each.path, claim) for each in claim.data])
    lines += ["", count(len(opinion.signatures), "signature")]
    lines += table(
        [
            (one.state, one.label, ", ".join(opinion.roles.get(one.keyid, [])) or "no role")
            for one in opinion.signatures
        ]
    )
    return [*lines, "", verdict(output, opinion)]


def verdict(output: Output, opinion: Opinion) -> str:
    """Whether the signatures would do here."""
    if opinion.enough is None:
        return f"Signatures {clean(opinion.why)}"
    if opinion.enough:
        return output.paint("Signatures are enough here.", "green") + f"  {clean(opinion.why)}"
    return output.paint("Signatures are not enough here.", "red") + f"  {clean(opinion.why)}"


def target_words(claim: Manifest) -> str:
    """Which processes it is for."""
    words = [claim.target.app]
    if claim.target.release is not None:
        words.append(f"release {claim.target.release}")
    words += [f"{name}={value}" for name, value in sorted(claim.target.labels.items())]
    words += [*claim.python, *([claim.platform] if claim.platform else [])]
    return "  ".join(words)


def hook_words(claim: Manifest) -> str:
    """What its hooks do, and what they carry over."""
    if claim.hooks is None:
        return ""
    names = ", ".join([*claim.hooks.migrates, *claim.hooks.upgrades])
    return ", ".join(claim.hooks.functions) + (f" of {names}" if names else "")


def built_words(claim: Manifest) -> str:
    """Where and with what it says that it was built."""
    source = msgspec.structs.asdict(claim.provenance)
    words = [f"{name} {value}" for name, value in source.items() if value]
    words += [f"{name} {version}" for name, version in sorted(claim.tools.items())]
    return ", ".join(words)


def row(entry: ModuleEntry | DataEntry, name: str, claim: Manifest) -> tuple[str, str, str]:
    """State, name, and bytes before and after."""
    before, after = size_of(entry.base, claim), size_of(entry.new, claim)
    sizes = " -> ".join("-" if size is None else f"{size:,}" for size in (before, after))
    return entry.state, name, f"{sizes} bytes"
