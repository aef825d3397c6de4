"""What is installed is one copy of each module, and every error it can raise is catalogued."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import zdpatch
from zdpatch.patcher.errors import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(zdpatch.__file__).parent
DOCS = Path(__file__).parents[1] / "docs"
FOLDERS = ("agent", "cli", "patcher")

IMPORT_ALL = """
import importlib, pkgutil, sys
from pathlib import Path
import zdpatch

def walk(package):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        module = importlib.import_module(found.name)
        if found.ispkg:
            walk(module)

walk(zdpatch)
homes = {}
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file is not None and name != "__main__":
        homes.setdefault(Path(file).resolve(), set()).add(id(module))
print([str(path) for path, modules in homes.items() if len(modules) > 1])
print(sorted({name.partition(".")[0] for name in sys.modules} & {"agent", "cli", "patcher"}))
"""


def run(code: str, cwd: Path | None = None) -> list[str]:
    """The lines a fresh interpreter prints for `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def sources() -> Iterator[Path]:
    """Every source file of the three folders, as installed."""
    for folder in FOLDERS:
        yield from sorted((PACKAGE / folder).rglob("*.py"))


def test_one_module_identity() -> None:
    """Importing all of it from the repository root loads no file twice, none by its bare name."""
    root = (PACKAGE / "patcher").resolve().parent
    assert run(IMPORT_ALL, cwd=root) == ["[]", "[]"]


def test_the_package_itself_imports_nothing() -> None:
    """`zdpatch/__init__.py` has no imports: they would pull ZeroMQ into the pure library."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports == []


def test_version_is_the_distributions() -> None:
    """`zdpatch.__version__` and the installed metadata agree."""
    assert zdpatch.__version__ == version("zdpatch")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("zdpatch.agent", ("zmq", "click", "rich", "securesystemslib")),
        ("zdpatch.patcher", ("zmq", "click", "rich", "psutil", "watchdog")),
        ("zdpatch.patcher.engine", ("zmq", "click", "rich", "psutil", "watchdog")),
        ("zdpatch.cli.main", ("rich", "securesystemslib")),
    ],
)
def test_import_stays_light(module: str, heavy: tuple[str, ...]) -> None:
    """Importing a part loads nothing that only a later step needs."""
    printed = run(f"import sys, {module}\nprint(sorted(set({heavy!r}) & set(sys.modules)))")
    assert printed == ["[]"]


def test_the_architecture_page_names_every_module() -> None:
    """Each module has its place in the tables of `docs/architecture.md`."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    missing = [path.stem for path in sources() if f"`{path.stem}`" not in page]
    assert [name for name in missing if name != "__init__"] == []


def used_ids() -> dict[str, set[str]]:
    """Each error id in the sources outside the catalogue, with the files that name it."""
    ids: dict[str, set[str]] = {}
    for path in sources():
        if path != PACKAGE / "patcher" / "errors.py":
            for found in re.findall(r"ZDP-\d{3}", path.read_text(encoding="utf-8")):
                ids.setdefault(found, set()).add(path.name)
    return ids


def test_every_error_id_is_catalogued() -> None:
    """No module raises an error id that has no title."""
    assert {name: files for name, files in used_ids().items() if name not in CATALOGUE} == {}


def test_no_catalogued_error_is_unused() -> None:
    """The catalogue promises no error that nothing can raise."""
    assert sorted(set(CATALOGUE) - set(used_ids())) == []
