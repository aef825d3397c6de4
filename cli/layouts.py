"""Where the modules of a project lie is read from its declarations and its tree, never guessed.

A declaration is believed where it is data: `pyproject.toml`, `setup.cfg`, the `top_level.txt` that
setuptools left. What is a program (`setup.py`) is not run; then the tree must leave one answer.
"""

from __future__ import annotations

import configparser
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from zdpatch.cli.import_root import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ASIDE: Final = frozenset(
    {"tests", "test", "docs", "doc", "examples", "example", "benchmarks", "benchmark"}
)
BUILD_FILES: Final = frozenset(
    {"setup.py", "conftest.py", "noxfile.py", "tasks.py", "versioneer.py", "ez_setup.py"}
    | {"fabfile.py", "toxfile.py", "build.py", "distribute_setup.py"}
)
TOOLS: Final = frozenset({"scripts", "tools", "build", "dist", "ci", "requirements", "samples"})
_NATIVE: Final = (".c", ".cc", ".cpp", ".pyx", ".rs")
REMEDY: Final = "give its wheel, or unpack it and give the import root as a directory"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A file or folder of the project, and where it is imported: `src/shop` as `shop`."""

    inside: str
    path: str


def places(files: Mapping[str, bytes], what: str, name: str) -> list[Place]:
    """What of a project's files gets imported. `name` is the project's, "" when nobody knows.

    Raises ZDP-004 when the declarations and the tree leave more than one answer, or none.
    """
    project = _pyproject(files, what)
    found = _declared(project, files, name) or _setuptools(project, files, what)
    found = found or _by_tree(files, what)
    missing = [each.inside for each in found if not _holds(files, each.inside)]
    if missing:
        raise SourceError(
            "ZDP-004", f"{what} says that it holds {missing[0]}, and does not", next=REMEDY
        )
    return sorted(set(found))


def _pyproject(files: Mapping[str, bytes], what: str) -> dict[str, Any]:
    try:
        return tomllib.loads(files.get("pyproject.toml", b"").decode())
    except (ValueError, RecursionError) as error:
        raise SourceError(
            "ZDP-004", f"{what}: pyproject.toml is malformed: {error}", next=REMEDY
        ) from None


def _table(project: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The table at a dotted path; empty when it is not there, or no table."""
    found: object = project
    for part in path.split("."):
        found = _as_table(found).get(part)
    return _as_table(found)


def _as_table(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _texts(value: object) -> list[str]:
    listed = cast("list[object]", value) if isinstance(value, list) else []
    return [each for each in listed if isinstance(each, str)]


# ---------------------------------------------------------------- declarations


def _declared(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    backend = str(_table(project, "build-system").get("build-backend", ""))
    for mark, read in _BACKENDS.items():
        if backend.partition(".")[0] == mark:
            return read(project, files, name)
    return []


def _hatch(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    build = _table(project, "tool.hatch.build")
    wheel = {**build, **_table(build, "targets.wheel")}
    given = [one.strip("/") for one in _texts(wheel.get("packages"))]
    found = [Place(one, one.rpartition("/")[2]) for one in given]
    sources = wheel.get("sources")
    only = [one.strip("/") for one in _texts(wheel.get("only-include"))]
    found += [Place(one, _moved(one, sources)) for one in only]
    for one, target in _table(wheel, "force-include").items():
        if isinstance(target, str) and one in files and target.endswith(".py"):
            found.append(Place(one, target.strip("/")))
    return found or _by_name(files, name)


def _moved(path: str, sources: object) -> str:
    """`path` without the prefix that hatch's `sources` takes off, or with another one."""
    pairs = dict.fromkeys(_texts(sources), "")
    if isinstance(sources, dict):
        pairs = {k: v for k, v in cast("dict[str, Any]", sources).items() if isinstance(v, str)}
    for prefix, other in pairs.items():
        plain = prefix.strip("/")
        if path == plain or path.startswith(f"{plain}/"):
            return f"{other.strip('/')}/{path.removeprefix(plain).strip('/')}".strip("/")
    return path


def _poetry(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    poetry = _table(project, "tool.poetry")
    found: list[Place] = []
    listed = poetry.get("packages")
    for one in cast("list[object]", listed) if isinstance(listed, list) else []:
        entry = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        inside, source = entry.get("include"), entry.get("from", "")
        if isinstance(inside, str) and entry.get("format") != "sdist":
            top = re.split(r"/?[*]", inside)[0].strip("/")
            to = str(entry.get("to", "")).strip("/")
            place = Place(f"{source}/{top}".strip("/"), f"{to}/{top}".strip("/"))
            found += [place] if top and top not in ASIDE else []
    return found or _by_name(files, str(poetry.get("name", name)))


def _flit(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    given = _table(project, "tool.flit.module").get("name")
    given = given or _table(project, "tool.flit.metadata").get("module")
    return _by_name(files, str(given or name))


def _uv(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    build = _table(project, "tool.uv.build-backend")
    root = str(build.get("module-root", "src")).strip("/")
    given = build.get("module-name", [])
    names = [given] if isinstance(given, str) else _texts(given)
    paths = [one.replace(".", "/") for one in names]
    return [Place(f"{root}/{one}".strip("/"), one) for one in paths] or _by_name(files, name)


def _pdm(project: dict[str, Any], files: Mapping[str, bytes], name: str) -> list[Place]:
    build = _table(project, "tool.pdm.build")
    root = str(build.get("package-dir", "src" if _below(files, "src") else "")).strip("/")
    listed = [one.strip("/") for one in _texts(build.get("includes"))]
    taken = [one for one in listed if _holds(files, one) and one.partition("/")[0] not in ASIDE]
    found = [Place(one, one.removeprefix(f"{root}/") if root else one) for one in taken]
    return found or _by_name(files, name)


_BACKENDS: Final = {
    "hatchling": _hatch,
    "poetry": _poetry,
    "flit_core": _flit,
    "flit": _flit,
    "uv_build": _uv,
    "pdm": _pdm,
}


# ---------------------------------------------------------------- setuptools


def _setuptools(project: dict[str, Any], files: Mapping[str, bytes], what: str) -> list[Place]:
    tool = _table(project, "tool.setuptools")
    moved = {k: str(v) for k, v in _table(tool, "package-dir").items()}
    names, modules = _texts(tool.get("packages")), _texts(tool.get("py-modules"))
    old = _setup_cfg(files, what)
    moved = moved or dict(_pairs(old.get("options", {}).get("package_dir", "")))
    if not names and "find" not in old.get("options", {}).get("packages", "find"):
        names = _lines(old["options"]["packages"])
    modules = modules or _lines(old.get("options", {}).get("py_modules", ""))
    names = names or _top_level(files, modules)
    where = _texts(_table(tool, "packages.find").get("where"))
    where += _lines(old.get("options.packages.find", {}).get("where", ""))
    roots = [moved[""]] if "" in moved else [*where, *_egg_roots(files), "src", ""]
    if any(path.endswith(_NATIVE) for path in files):  # some of them may be compiled
        names = [one for one in names if one in moved or _module_place(files, one, roots)]
    given = {one: Place(moved[one].strip("/"), one.replace(".", "/")) for one in moved if one}
    return [
        given.get(one) or _module_place(files, one, roots) or Place(one, one)
        for one in (*_tops(names, moved), *modules)
    ]


def _module_place(files: Mapping[str, bytes], name: str, roots: Iterable[str]) -> Place | None:
    """Where the first of `roots` that holds a package or module of this name has it."""
    path = name.replace(".", "/")
    plain = [root.strip("/").removeprefix("./").removeprefix(".") for root in roots]
    for root in plain:
        inside = f"{root}/{path}".strip("/")
        if f"{inside}.py" in files and not _below(files, inside):
            return Place(f"{inside}.py", f"{path}.py")
        if _below(files, inside):
            return Place(inside, path)
    return None


def _tops(names: Iterable[str], moved: Mapping[str, str]) -> list[str]:
    """Packages that no other one of the list holds, unless they lie somewhere else."""
    all_names = set(names)
    return [
        name
        for name in sorted(all_names)
        if name in moved or not any(name.startswith(f"{other}.") for other in all_names)
    ]


def _top_level(files: Mapping[str, bytes], modules: Iterable[str]) -> list[str]:
    """What setuptools says it would install, from the metadata it left in the archive."""
    lists = [path for path in files if path.endswith(".egg-info/top_level.txt")]
    names = {line for path in lists for line in _lines(files[path].decode("utf-8", "replace"))}
    product = {name for name in names if name not in ASIDE} or names
    return sorted(name.replace("/", ".") for name in product - set(modules))


def _egg_roots(files: Mapping[str, bytes]) -> list[str]:
    """setuptools writes its metadata where the import root is."""
    found = {path.partition(".egg-info/")[0].rpartition("/")[0] for path in files if _is_egg(path)}
    return sorted(found, reverse=True)


def _is_egg(path: str) -> bool:
    return path.endswith((".egg-info/top_level.txt", ".egg-info/SOURCES.txt"))


def _setup_cfg(files: Mapping[str, bytes], what: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(files.get("setup.cfg", b"").decode("utf-8", "replace"))
    except configparser.Error as error:
        raise SourceError(
            "ZDP-004", f"{what}: setup.cfg is malformed: {error}", next=REMEDY
        ) from None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in re.split(r"[\n,]", text) if line.strip()]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in _lines(text):
        key, _, value = line.partition("=")
        yield key.strip(), value.strip()


# ---------------------------------------------------------------- the tree


def _by_name(files: Mapping[str, bytes], name: str) -> list[Place]:
    """The package or module called like the project, in `src` or at the top."""
    path = re.sub(r"[-_ ]+", "_", name).strip("_")
    for one in dict.fromkeys((path, path.lower(), path.replace(".", "/").lower())):
        for root in ("src/", "") if one else ():
            if f"{root}{one}/__init__.py" in files:
                return [Place(f"{root}{one}", one)]
            if f"{root}{one}.py" in files:
                return [Place(f"{root}{one}.py", f"{one}.py")]
    return []


def _by_tree(files: Mapping[str, bytes], what: str) -> list[Place]:
    """All of `src`, or the one package or module at the top."""
    if "src/__init__.py" not in files and (held := _tops_below(files, "src/") - ASIDE):
        return [Place(f"src/{one}", one) for one in held]
    held = {one for one in _tops_below(files, "") if f"{one}/__init__.py" in files or one in files}
    answers = sorted(held - ASIDE - BUILD_FILES - TOOLS)
    if len(answers) == 1:
        return [Place(one, one) for one in answers]
    found = f"{', '.join(answers[:5])} could each be it" if answers else "it holds no module"
    raise SourceError(
        "ZDP-004", f"{what} does not tell what of it is installed: {found}", next=REMEDY
    )


def _tops_below(files: Mapping[str, bytes], root: str) -> set[str]:
    """Modules directly below `root`, and the folders there that hold any."""
    inside = [path.removeprefix(root) for path in files if path.startswith(root)]
    return {path.partition("/")[0] for path in inside if path.endswith(".py")}


def _below(files: Mapping[str, bytes], folder: str) -> bool:
    return any(path.startswith(f"{folder}/") and path.endswith(".py") for path in files)


def _holds(files: Mapping[str, bytes], path: str) -> bool:
    return path in files or _below(files, path)
