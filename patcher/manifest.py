"""A parsed manifest is well formed in every field, and re-encodes to the very bytes it came from.

It is the predicate of an in-toto Statement. One form is accepted, the canonical one, so a duplicate
key, a space, a float for an integer or another order of keys is refused without a second parser.
Nothing here says who signed it or whether it may be applied: `trust` does.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING, Annotated, Final, Literal, cast

import msgspec
from msgspec import Meta

from zdpatch.patcher.attached import MAX_PROBES, Hex, Hooks, Probe, odd_hooks, odd_probes
from zdpatch.patcher.errors import AuthorError
from zdpatch.patcher.source import DataChange, ModuleChange, Patch, is_data_path
from zdpatch.patcher.source import Hooks as SourceOfHooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:zdpatch:patch:v1"
MAX_SOURCE: Final = 8 << 20  # bytes of one blob
LAST_SECOND: Final = 253402300799  # 9999-12-31T23:59:59Z: what a date can show
MAX_ENTRIES: Final = 512  # modules, and data files too
MAX_SEQ: Final = (1 << 53) - 1  # exact in every JSON reader

PatchId = Annotated[str, Meta(pattern="^[A-Z0-9][A-Z0-9-]{0,39}$", max_length=40)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
Second = Annotated[int, Meta(ge=0, le=LAST_SECOND)]
PythonTag = Annotated[str, Meta(pattern="^cp3[0-9]{1,2}t?$", max_length=6)]
Platform = Annotated[str, Meta(pattern="^[a-z0-9_.-]{1,64}$", max_length=64)]
FixId = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$", max_length=64)]
Words = Annotated[dict[Name, Annotated[str, Meta(max_length=200)]], Meta(max_length=32)]
Safety = Literal["low", "normal", "high", "stateful"]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which processes it is for: they carry all of `labels`; `release` None means any release."""

    app: Name
    labels: Words = msgspec.field(default_factory=dict[str, str])
    release: Name | None = None


class ModuleEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module, before and after, by sha256 of its source. None: it is not there."""

    name: Name
    path: Annotated[str, Meta(min_length=1, max_length=400)]
    package: bool
    base: Hex | None
    new: Hex | None

    @property
    def state(self) -> str:
        """What happens to it; "follows": same source, but it takes values from a changed module."""
        if self.base is None:
            return "added"
        if self.new is None:
            return "removed"
        return "follows" if self.base == self.new else "changed"


class DataEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One data file of a package, before and after, by sha256. None: it is not there."""

    path: Annotated[str, Meta(min_length=1, max_length=400)]
    base: Hex | None
    new: Hex | None

    @property
    def state(self) -> str:
        """What happens to it."""
        if self.base is None:
            return "added"
        return "removed" if self.new is None else "changed"


class Blob(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Size of one blob, in bytes."""

    size: Annotated[int, Meta(ge=0, le=MAX_SOURCE)]


class Consistency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The patch goes in so that no request sees both versions. That may take `limit_s` seconds;
    then "abort" leads back, and "flip" goes on at once.
    """

    limit_s: Annotated[int, Meta(ge=1, le=3600)] | None = None
    on_limit: Literal["abort", "flip"] | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it was built; claims of the builder, for people and audits."""

    repo: Name | None = None
    commit: Name | None = None
    ci_run: Name | None = None
    builder: Name | None = None
    workflow: Name | None = None


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What base and new are: "jinja2==3.1.5", "git:<sha>", "wheel:<file>", "sdist:<file>",
    "directory", "agent:<which process>".
    """

    base: Name
    new: Name


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle claims. Times are seconds since 1970; after `not_after` none may accept it."""

    schema: Literal[1] = 1
    id: PatchId
    seq: Annotated[int, Meta(ge=1, le=MAX_SEQ)]
    target: Target
    python: Annotated[list[PythonTag], Meta(min_length=1, max_length=16)]
    platform: Platform | None = None
    created: Second
    not_after: Second
    safety: Safety
    modules: Annotated[list[ModuleEntry], Meta(min_length=1, max_length=MAX_ENTRIES)]
    data: Annotated[list[DataEntry], Meta(max_length=MAX_ENTRIES)] = msgspec.field(
        default_factory=list[DataEntry]
    )
    requires: Annotated[list[PatchId], Meta(max_length=32)] = msgspec.field(
        default_factory=list[str]
    )
    conflicts: Annotated[list[PatchId], Meta(max_length=32)] = msgspec.field(
        default_factory=list[str]
    )
    supersedes: Annotated[list[PatchId], Meta(max_length=32)] = msgspec.field(
        default_factory=list[str]
    )
    replace_all: bool = False
    probes: Annotated[list[Probe], Meta(max_length=MAX_PROBES)] = msgspec.field(
        default_factory=list[Probe]
    )
    hooks: Hooks | None = None
    bake_s: Annotated[int, Meta(ge=0, le=30 * 86400)] = 0
    blobs: Annotated[dict[Hex, Blob], Meta(max_length=1024)] = msgspec.field(
        default_factory=dict[str, Blob]
    )
    tools: Words = msgspec.field(default_factory=dict[str, str])
    provenance: Provenance = msgspec.field(default_factory=Provenance)
    origin: Origin
    fixes: Annotated[list[FixId], Meta(max_length=64)] = msgspec.field(default_factory=list[str])
    sbom: Hex | None = None
    notes: Text = ""
    consistent: Consistency | None = None

    def references(self) -> dict[str, str]:
        """Every blob it needs: subject name ("base/a/b.py", "new/a/b.py", "probe/a.py", "hooks",
        "sbom") to sha256.
        """
        named: dict[str, str] = {}
        entries: list[ModuleEntry | DataEntry] = [*self.modules, *self.data]
        for entry in entries:
            if entry.base is not None:
                named[f"base/{entry.path}"] = entry.base
            if entry.new is not None:
                named[f"new/{entry.path}"] = entry.new
        named |= {f"probe/{probe.name}": probe.source for probe in self.probes}
        if self.hooks is not None:
            named["hooks"] = self.hooks.source
        if self.sbom is not None:
            named["sbom"] = self.sbom
        return named


class _Digest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sha256: Hex


class _Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=410)]
    digest: _Digest


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[list[_Subject], Meta(max_length=1025)]
    predicate_type: Literal["urn:zdpatch:patch:v1"] = msgspec.field(name="predicateType")
    predicate: Manifest


_DECODER: Final = msgspec.json.Decoder(_Statement)


def canonical(value: object) -> bytes:
    """`value` (built-in types) as JSON in the one form we sign: sorted keys, no spaces, ASCII."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def encode(manifest: Manifest) -> bytes:
    """The statement that is signed: canonical, the same on every Python. Checks nothing."""
    subject = [
        {"name": name, "digest": {"sha256": digest}}
        for name, digest in sorted(manifest.references().items())
    ]
    predicate: dict[str, object] = msgspec.to_builtins(manifest)
    for name in ("data", "consistent", "hooks"):  # as it was spelt before there were any
        if not getattr(manifest, name):
            del predicate[name]
    return canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": subject,
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def decode(payload: bytes) -> Manifest:
    """The manifest in a statement. Raises AuthorError ZDP-104 (JSON) or ZDP-105 (content)."""
    manifest = _parse(payload)
    for rule in _RULES:
        rule(manifest)
    if encode(manifest) != payload:
        raise AuthorError(
            "ZDP-104",
            "the signed statement is not in canonical form "
            "(duplicate keys, spaces, order of keys, or subjects which do not match the modules)",
            next="zdpatch build",
        )
    return manifest


def _parse(payload: bytes) -> Manifest:
    """Typed decoding: its depth is bounded by the schema, whatever the bytes are."""
    try:
        return _DECODER.decode(payload).predicate
    except msgspec.ValidationError as error:
        raise AuthorError("ZDP-105", f"the manifest is not valid: {error}") from None
    except Exception as error:  # noqa: BLE001 - hostile bytes: whatever is raised means "refused"
        raise AuthorError(
            "ZDP-104", f"the signed statement is not JSON: {type(error).__name__}: {error}"[:300]
        ) from None


def _refuse(cause: str) -> AuthorError:
    return AuthorError("ZDP-105", cause)


def _strings(value: object) -> Iterator[str]:
    """Every string in a value made of JSON types, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for pair in cast("dict[object, object]", value).items():
            yield from _strings(pair)
    elif isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            yield from _strings(item)


def _check_text(manifest: Manifest) -> None:
    """Ids, names and notes reach logs and terminals: no control, direction or line characters."""
    for text in _strings(msgspec.to_builtins(manifest)):
        if not text.isprintable():
            raise _refuse(f"a character of the manifest cannot be printed: {text[:60]!a}")


def _check_times(manifest: Manifest) -> None:
    if manifest.not_after <= manifest.created:
        raise _refuse("the bundle expires before it was created")


def _check_lists(manifest: Manifest) -> None:
    lists: dict[str, list[str]] = {
        "python": manifest.python,
        "requires": manifest.requires,
        "conflicts": manifest.conflicts,
        "supersedes": manifest.supersedes,
        "fixes": manifest.fixes,
    }
    for name, values in lists.items():
        if values != sorted(set(values)):
            raise _refuse(f"{name} is not sorted, or names something twice")
    for name in ("requires", "conflicts", "supersedes"):
        if manifest.id in lists[name]:
            raise _refuse(f"{manifest.id} names itself in {name}")


def _check_modules(manifest: Manifest) -> None:
    names = [entry.name for entry in manifest.modules]
    if names != sorted(set(names)):
        raise _refuse("modules are not sorted by name, or one is named twice")
    for entry in manifest.modules:
        if entry.path != path_of(entry.name, package=entry.package):
            raise _refuse(f"{entry.path!a} is not the path of the module {entry.name!a}")
        if entry.base is None and entry.new is None:
            raise _refuse(f"module {entry.name} has neither base nor new source")


def _check_data(manifest: Manifest) -> None:
    paths = [entry.path for entry in manifest.data]
    if paths != sorted(set(paths)):
        raise _refuse("data files are not sorted by path, or one is named twice")
    for entry in manifest.data:
        if not is_data_path(entry.path):
            raise _refuse(f"{entry.path!a} is not the path of a data file of a package")
        if entry.base == entry.new:
            raise _refuse(f"the data file {entry.path} is the same before and after")


def _check_attached(manifest: Manifest) -> None:
    why = odd_probes(manifest.probes) or (odd_hooks(manifest.hooks) if manifest.hooks else "")
    if why:
        raise _refuse(why)


def _check_references(manifest: Manifest) -> None:
    wanted = set(manifest.references().values())
    listed = set(manifest.blobs)
    if wanted != listed:
        odd = min(wanted ^ listed)
        what = "is not listed" if odd in wanted else "is used by nothing"
        raise _refuse(f"blob {odd[:12]} {what}")


_RULES: Final = (
    _check_text, _check_times, _check_lists, _check_modules, _check_data, _check_attached,
    _check_references,
)  # fmt: skip


def path_of(name: str, *, package: bool) -> str:
    """The path of a module's source under its import root. Raises AuthorError ZDP-105.

    It follows from the name, so it cannot be absolute, climb out, or be written in two ways.
    """
    for part in name.split("."):
        # The import system looks for the normalised spelling: any other would be a second name.
        if not part.isidentifier() or unicodedata.normalize("NFKC", part) != part:
            raise _refuse(f"{name!a} is not the name of a module")
    return name.replace(".", "/") + ("/__init__.py" if package else ".py")


def describe(
    changes: Iterable[ModuleChange], data: Iterable[DataChange] = ()
) -> tuple[list[ModuleEntry], list[DataEntry], dict[str, bytes]]:
    """The entries of a patch, sorted as a manifest wants them, and its blobs by sha256."""
    blobs: dict[str, bytes] = {}

    def store(source: bytes | None) -> str | None:
        if source is None:
            return None
        digest = hashlib.sha256(source).hexdigest()
        blobs[digest] = source
        return digest

    entries = [
        ModuleEntry(
            name=change.name,
            path=change.path,
            package=change.package,
            base=store(change.base),
            new=store(change.new),
        )
        for change in sorted(changes, key=lambda change: change.name)
    ]
    others = [
        DataEntry(path=each.path, base=store(each.base), new=store(each.new))
        for each in sorted(data, key=lambda each: each.path)
    ]
    return entries, others, blobs


def patch_of(manifest: Manifest, blobs: Mapping[str, bytes]) -> Patch:
    """The other way: what a manifest asks for, with the sources themselves."""

    def content(digest: str | None) -> bytes | None:
        return None if digest is None else blobs[digest]

    changes = tuple(
        ModuleChange(
            name=entry.name,
            path=entry.path,
            package=entry.package,
            base=content(entry.base),
            new=content(entry.new),
        )
        for entry in manifest.modules
    )
    data = tuple(DataChange(e.path, content(e.base), content(e.new)) for e in manifest.data)
    hooks = None if manifest.hooks is None else hooks_of(manifest.hooks, blobs)
    return Patch(manifest.id, changes, data, hooks)


def hooks_of(claim: Hooks, blobs: Mapping[str, bytes]) -> SourceOfHooks:
    """The hooks that a manifest names, with their source."""
    return SourceOfHooks(
        blobs[claim.source],
        frozenset(claim.migrates),
        frozenset(claim.upgrades),
        frozenset[str](claim.functions),
        claim.timeout_s,
    )


def unsupported(manifest: Manifest) -> None:
    """Refuse what was signed for but cannot be done here. Raises AuthorError ZDP-115."""
    demands = {
        "replace_all": manifest.replace_all,
        "supersedes": bool(manifest.supersedes),
        "bake_s": bool(manifest.bake_s),
    }
    asked = [name for name, wanted in demands.items() if wanted]
    if asked:
        raise AuthorError(
            "ZDP-115",
            f"{manifest.id} asks for {', '.join(asked)}, which this version of zdpatch cannot do",
            next="zdpatch build, without it",
        )
