"""A module of the patch that is not loaded yet is executed from its new source when it is first
needed, once; `sys.modules` has it only after the flip.
"""

from __future__ import annotations
import __future__

import ast
from dataclasses import dataclass, field
from importlib.util import module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Final

from zdpatch.patcher.evaluate import Find, Place, run
from zdpatch.patcher.swap import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.machinery import ModuleSpec

    from zdpatch.patcher.edits import ModuleVersions
    from zdpatch.patcher.items import Item
    from zdpatch.patcher.outline import Outline

_LAZY: Final = __future__.annotations.compiler_flag


@dataclass(eq=False)
class Newcomers:
    """`specs` say how to make them; `made` are those that an earlier plan of the patch executed."""

    versions: Mapping[str, ModuleVersions]
    specs: Mapping[str, ModuleSpec]
    filenames: Mapping[str, str]
    made: Mapping[str, ModuleType]
    modules: dict[str, ModuleType] = field(default_factory=dict[str, ModuleType])

    def load(self, name: str, find: Find) -> ModuleType:
        """A module of the patch which is not loaded yet, executed from its new source, which
        looks up with `find` what the patch changes. Raises what it raises.
        """
        if name in self.made and name not in self.modules:
            # an earlier plan of this patch executed it, and what it imports
            self.modules.update(self.made)
        if name in self.modules:
            return self.modules[name]
        parent, _, last = name.rpartition(".")
        if parent in self.specs:
            self.load(parent, find)
            if name in self.modules:
                return self.modules[name]  # the package imports it itself
        each = self.versions[name]
        assert each.new is not None
        module = self.modules[name] = module_from_spec(self.specs[name])
        outline = each.new.outline
        for index, node in enumerate(outline.tree.body):
            if index and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # alone it would be taken for the docstring
            self._statement(module, outline, node, find)
        if parent in self.modules:
            vars(self.modules[parent]).setdefault(last, module)
        return module

    def _statement(self, module: ModuleType, outline: Outline, node: ast.stmt, find: Find) -> None:
        names = vars(module)
        if isinstance(node, ast.Import | ast.ImportFrom):
            items = [i for i in outline.items if i.kind == "import" and i.line == node.lineno]
            if items and any(find("", _loaded_by(item)) is not MISSING for item in items):
                names.update(run(items, Place(module, self.filenames[outline.name]), find))
                return
        code = compile(
            ast.Module([node], []),
            self.filenames[outline.name],
            "exec",
            flags=future_flags(outline),
            dont_inherit=True,
        )
        exec(code, names)  # noqa: S102 - verified source of the patch


def _loaded_by(item: Item) -> str:
    """What an import statement loads: `import a.b` binds `a`, and loads `a.b`."""
    return item.node.names[0].name if isinstance(item.node, ast.Import) else item.source


def future_flags(outline: Outline) -> int:
    """Flags for `compile` that the module's own `from __future__` imports would give."""
    return _LAZY if outline.lazy_annotations else 0
