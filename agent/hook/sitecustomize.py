"""Python runs this in each worker that a supervisor started, before the command itself.

Python itself is not changed: this directory was on PYTHONPATH, and is taken off again.
"""

from __future__ import annotations

import importlib
import os
import sys


def _begin() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - nothing is imported
    sys.path[:] = [entry for entry in sys.path if entry != here]
    left = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one != here]
    os.environ.pop("PYTHONPATH", None)
    if any(left):
        os.environ["PYTHONPATH"] = os.pathsep.join(left)
    try:
        importlib.import_module("zdpatch.agent.boarding").board()
    except Exception as error:  # noqa: BLE001 - the command runs in any case, and is not ready
        os.write(2, f"zdpatch: {sys.executable} cannot be a worker: {error!r}\n".encode())
    me = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")  # the one that this stands before
    except ImportError as error:
        sys.modules["sitecustomize"] = me
        if error.name != "sitecustomize":
            raise


_begin()
