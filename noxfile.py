"""What CI and a developer run: ``nox`` for everything, ``nox -s tests-3.13`` for one session."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "tests", "e2e", "wheel"]

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13"]
FOLDERS = ["agent", "cli", "patcher"]
# What a wheel could break: all that starts, imports or installs it, and the engine as a whole.
# The engine's cases one by one would run the same modules again that `tests` ran.
OF_A_WHEEL = [
    "agent",
    "cli",
    "demo_app",
    "property",
    "engine/test_against_fresh.py",
    "test_packaging.py",
]


def install(session: nox.Session, *groups: str) -> None:
    """Install the project in place, and the dependency groups."""
    session.install("--editable", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session(python="3.13")
def lint(session: nox.Session) -> None:
    """Style, the direction of imports, types."""
    install(session, "lint", "test", "bench")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Everything that starts no long-running process."""
    install(session, "test")
    session.run("pytest", "-n2", "-m", "not e2e and not network", *session.posargs)


@nox.session(python=PYTHONS)
def e2e(session: nox.Session) -> None:
    """Real processes and sockets, one test at a time."""
    install(session, "test")
    session.run("pytest", "-m", "e2e and not network", *session.posargs)


@nox.session(python=["3.11", "3.13"])
def wheel(session: nox.Session) -> None:
    """Tests against the wheel built from the sdist, with the sources out of the way."""
    session.install("build", *nox.project.dependency_groups(PYPROJECT, "test"))
    scratch = Path(session.virtualenv.location) / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(scratch), silent=True)
    (built,) = scratch.glob("*.whl")
    check_contents(session, built)
    session.install("--force-reinstall", "--no-deps", str(built))
    session.install(str(built))
    away = scratch / "away"
    for folder in ("tests", "demo_app", "docs"):
        shutil.copytree(ROOT / folder, away / folder, symlinks=True)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, away)
    session.chdir(away)
    chosen = [f"tests/{name}" for name in OF_A_WHEEL]
    session.run("python", "-P", "-m", "pytest", "-n2", "-m", "not e2e and not network", *chosen)


def check_contents(session: nox.Session, built: Path) -> None:
    """Stop unless the wheel holds every module of the three folders: it can be built empty."""
    wanted = {
        f"zdpatch/{path.relative_to(ROOT)}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    missing = sorted({"zdpatch/__init__.py", "zdpatch/py.typed", *wanted}.difference(names(built)))
    if missing:
        session.error(f"{built.name} lacks {', '.join(missing)}")
    session.log(f"{built.name} holds all {len(wanted)} modules")


def names(built: Path) -> list[str]:
    """The names of the files in a wheel."""
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()
