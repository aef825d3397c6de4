"""`trust` decides whose signatures count; each change leaves a policy that an agent accepts."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast, get_args

import click
import msgspec

from zdpatch.agent.trustfile import load_trust
from zdpatch.cli import trustedit
from zdpatch.cli.bundlefile import read_bundle
from zdpatch.cli.errors import usage
from zdpatch.cli.keyfile import load_public
from zdpatch.cli.options import Duration
from zdpatch.cli.output import Group, Output, clean, pass_output, table
from zdpatch.patcher import keyring, signing
from zdpatch.patcher.keyring import Key, Role, TrustPolicy
from zdpatch.patcher.manifest import Safety

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SCHEMA: Final = "zdpatch.trust/v1"
CLASSES: Final[tuple[str, ...]] = get_args(Safety)
DEFAULT_POLICY: Final = {
    "low": ["ci"],
    "normal": ["ci"],
    "high": ["ci", "approve"],
    "stateful": ["ci", "approve"],
}
_ROLE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}")


@click.group(
    "trust",
    cls=Group,
    short_help="Say whose signatures count here.",
    examples=[
        "zdpatch trust init --key ci.pub",
        "zdpatch trust add --role approve --key alice.pub --not-after 90d",
        "zdpatch trust show",
        "zdpatch trust revoke alice.pub",
    ],
)
def trust() -> None:
    """Say whose signatures count here.

    The trust file of an agent is trust.json in its home, or what ZDPATCH_TRUST names. Each safety
    class of bundles needs certain roles; each role needs signatures by so many of its keys.
    """


def file_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--file FILE`."""
    return click.option(
        "--file",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The trust file (default: ZDPATCH_TRUST, or trust.json in the home).",
    )(command)


def key_options(*, required: bool) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """`--key KEY.pub ...` and `--not-after TIME`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        key = click.option(
            "--key",
            "keys",
            metavar="KEY.pub",
            type=click.Path(path_type=Path, dir_okay=False),
            multiple=True,
            required=required,
            help="A public key; may be given several times.",
        )
        not_after = click.option(
            "--not-after",
            "lifetime_s",
            type=Duration(),
            default=90.0 * 86400,
            show_default="90d",
            help="How long the keys count. What they signed before stays applied.",
        )
        return key(not_after(command))

    return add


@trust.command(
    "init",
    examples=[
        "zdpatch trust init --key ci.pub",
        "zdpatch trust init --policy normal=ci,approve --threshold approve=2",
    ],
)
@click.option("--policy", metavar="CLASS=ROLE,...", multiple=True, help="Roles a class needs.")
@click.option("--threshold", metavar="ROLE=N", multiple=True, help="Signatures a role needs (1).")
@key_options(required=False)
@file_option
@pass_output
def init(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    policy: tuple[str, ...],
    threshold: tuple[str, ...],
    keys: tuple[Path, ...],
    lifetime_s: float,
    path: Path | None,
) -> None:
    """Make a trust file. Keys that are given here get the role ci.

    Unless said otherwise, bundles of class low and normal need the role ci, those of class high and
    stateful the roles ci and approve as well.
    """
    rules = DEFAULT_POLICY | dict(map(parse_rule, policy))
    thresholds = dict(map(parse_threshold, threshold))
    names = sorted({"ci", "approve"} | {role for roles in rules.values() for role in roles})
    for name in thresholds:
        if name not in names:
            raise usage(f"no class needs the role {name}", next="zdpatch trust init --help")
    made = TrustPolicy(
        roles={name: Role(keyids=[], threshold=thresholds.get(name, 1)) for name in names},
        policy=cast("dict[Safety, list[str]]", rules),
    )
    made = with_keys(made, "ci", read_keys(keys, lifetime_s))
    where = path or trustedit.default_trust(output.home)
    trustedit.create(where, made)
    report(output, where, made, [f"{clean(where)} was made."])


@trust.command("show", examples=["zdpatch trust show", "zdpatch trust show --json"])
@file_option
@pass_output
def show(output: Output, /, *, path: Path | None) -> None:
    """Show who is trusted with what, as an agent reads it."""
    where = path or trustedit.default_trust(output.home)
    report(output, where, load_trust(where, trustedit.reader_of(where)), [clean(where)])


@trust.command(
    "add",
    examples=[
        "zdpatch trust add --role ci --key ci.pub",
        "zdpatch trust add --role approve --key alice.pub --key bob.pub --not-after 365d",
    ],
)
@click.option("--role", required=True, help="The role that the keys get.")
@click.option("--name", help="What to call the key (default: the name of its file).")
@key_options(required=True)
@file_option
@pass_output
def add(  # noqa: PLR0913 - one per option
    output: Output,
    /,
    *,
    role: str,
    name: str | None,
    keys: tuple[Path, ...],
    lifetime_s: float,
    path: Path | None,
) -> None:
    """Give a role to keys. A key that is there already gets the new end."""
    if name is not None and len(keys) > 1:
        raise usage("--name is for one key")
    where = path or trustedit.default_trust(output.home)
    given = read_keys(keys, lifetime_s, name)
    after = trustedit.change(where, lambda policy: with_keys(policy, role, given))
    words = [
        f"{clean(key.name)} ({signing.keyid(key.public)[:8]}) has the role {role}" for key in given
    ]
    report(output, where, after, words)


@trust.command(
    "revoke",
    examples=[
        "zdpatch trust revoke bad.zdp",
        "zdpatch trust revoke alice.pub",
        "zdpatch trust revoke --below shop=42",
    ],
)
@click.argument("what", metavar="[BUNDLE|DIGEST|KEY.pub|KEYID]", required=False)
@click.option("--below", metavar="APP=SEQ", help="Refuse all bundles of APP with a lower number.")
@file_option
@pass_output
def revoke(output: Output, /, *, what: str | None, below: str | None, path: Path | None) -> None:
    """Refuse a bundle, or whatever a key signed, from now on.

    A revoked bundle is refused, and is not applied again when a process starts; take it out of
    running processes with `zdpatch rollback`. The same holds for every bundle that does not have
    enough signatures without a revoked key.

    --below refuses what comes in from now on: a bundle that was accepted before is brought up after
    a restart too, until it is rolled back.
    """
    if (what is None) == (below is None):
        raise usage("name one thing to revoke, or give --below", next="zdpatch trust revoke --help")
    where = path or trustedit.default_trust(output.home)
    said: list[str] = []

    def edit(policy: TrustPolicy) -> TrustPolicy:
        if below is not None:
            app, least = parse_floor(below)
            said.append(
                f"bundles for {clean(app)} below {least} are refused from now on; one that was"
                " accepted before stays in, also after a restart, until a rollback takes it out"
            )
            floors = policy.min_seq | {app: max(least, policy.min_seq.get(app, 0))}
            return msgspec.structs.replace(policy, min_seq=floors)
        kind, digest = find_revoked(what or "", policy)
        said.append(f"{kind} {digest} is revoked")
        revoked = sorted({*policy.revoked, digest})
        return msgspec.structs.replace(policy, revoked=revoked)

    after = trustedit.change(where, edit)
    report(output, where, after, said)


def parse_rule(text: str) -> tuple[str, list[str]]:
    """`"high=ci,approve"`. Raises ZDP-001."""
    safety, equals, roles = text.partition("=")
    names = [name.strip() for name in roles.split(",")]
    if safety not in CLASSES or not equals:
        raise usage(f"{text!r} is not CLASS=ROLE,... with a class of {', '.join(CLASSES)}")
    for name in names:
        if not _ROLE.fullmatch(name):
            raise usage(f"{name!r} is not the name of a role (lower-case letters, digits, - and _)")
    return safety, names


def parse_threshold(text: str) -> tuple[str, int]:
    """`"approve=2"`. Raises ZDP-001."""
    role, equals, number = text.partition("=")
    if not equals or not number.isdecimal() or not 1 <= int(number) <= 64:
        raise usage(f"{text!r} is not ROLE=N with N from 1 to 64")
    return role, int(number)


def parse_floor(text: str) -> tuple[str, int]:
    """`"shop=42"`. Raises ZDP-001."""
    app, _, number = text.rpartition("=")
    if not app or not re.fullmatch(r"[0-9]{1,15}", number):
        raise usage(f"{text!r} is not APP=SEQ, like shop=42")
    return app, int(number)


def read_keys(paths: Iterable[Path], lifetime_s: float, name: str | None = None) -> list[Key]:
    """The public keys in these files, good from now for `lifetime_s` seconds."""
    end = int(time.time() + lifetime_s)
    return [Key(public=load_public(path), name=name or path.stem, not_after=end) for path in paths]


def with_keys(policy: TrustPolicy, role: str, keys: Sequence[Key]) -> TrustPolicy:
    """`policy` in which `keys` have `role`. Raises ZDP-001 for a role or key that cannot be."""
    if role not in policy.roles:
        raise usage(
            f"there is no role {role}; there are {', '.join(sorted(policy.roles))}",
            next="zdpatch trust show",
        )
    given = {signing.keyid(key.public): key for key in keys}
    for keyid, key in given.items():
        if keyid in policy.revoked:
            raise usage(f"the key {key.name} was revoked; make another", next="zdpatch keygen")
    old = policy.roles[role]
    keyids = sorted({*old.keyids, *given})
    return msgspec.structs.replace(
        policy,
        keys=policy.keys | given,
        roles=policy.roles | {role: msgspec.structs.replace(old, keyids=keyids)},
    )


def find_revoked(what: str, policy: TrustPolicy) -> tuple[str, str]:
    """("bundle" or "key", digest) for a file, a digest, a key id or its start. Raises ZDP-001."""
    file = Path(what)
    if file.is_file():
        if file.read_bytes()[:4] == b"PK\3\4":
            return "bundle", read_bundle(file).digest
        return "key", signing.keyid(load_public(file))
    found = [keyid for keyid in policy.keys if _PREFIX.fullmatch(what) and keyid.startswith(what)]
    if len(found) == 1:
        return "key", found[0]
    if found:
        raise usage(f"{len(found)} keys begin with {what}", next="zdpatch trust show")
    if _DIGEST.fullmatch(what):
        return "bundle", what
    raise usage(
        f"{what!r} is not a file, not the 64 digits of a bundle's digest, and not a key's id",
        next="zdpatch inspect BUNDLE",
    )


def report(output: Output, path: Path, policy: TrustPolicy, said: Sequence[str]) -> None:
    """The policy, with what cannot work in it."""
    short = policy.short_roles()
    data: dict[str, object] = {
        "file": str(path),
        "said": list(said),
        "policy": msgspec.to_builtins(policy),
        "short_roles": short,
    }
    output.result(SCHEMA, data, [*said, "", *policy_lines(policy, int(time.time()))])
    for role in short:
        classes = ", ".join(name for name, roles in policy.policy.items() if role in roles)
        output.progress(
            f"The role {role} has {policy.usable(role)} of {policy.roles[role].threshold} keys: "
            f"bundles of class {classes} are refused until  "
            f"zdpatch trust add --role {role} --key KEY.pub"
        )


def policy_lines(policy: TrustPolicy, now: int) -> list[str]:
    """The policy for people: what each class needs, then who has each role."""
    lines = table(
        [
            (name, " and ".join(f"{policy.roles[r].threshold} of {r}" for r in policy.policy[name]))
            for name in CLASSES
            if name in policy.policy
        ],
        head=("CLASS", "NEEDS"),
    )
    rows: list[tuple[str, str, str, str]] = []
    for name, role in sorted(policy.roles.items()):
        rows += [
            (name, policy.keys[keyid].name, keyid[:16], key_state(keyid, policy, now))
            for keyid in role.keyids
        ]
    lines += ["", *table(rows, head=("ROLE", "KEY", "ID", "STATE"))]
    lines += ["", *(f"revoked  {digest}" for digest in policy.revoked)]
    lines += [f"refused  {clean(app)} below {seq}" for app, seq in sorted(policy.min_seq.items())]
    return lines


def key_state(keyid: str, policy: TrustPolicy, now: int) -> str:
    """What a key is good for, in words."""
    if keyid in policy.revoked:
        return "revoked"
    end = policy.keys[keyid].not_after
    return f"{'expired on' if end < now else 'until'} {keyring.day(end)}"
