"""Compares modules of packages that are installed here with their own unmodified files; prints how
many there were, and which are not what their files say.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from pathlib import Path

from zdpatch.patcher.running import running

PACKAGES = [
    *("anyio", "attr", "attrs", "click", "fastapi", "flask", "h11", "h2", "httpx", "idna"),
    *("itsdangerous", "jinja2", "markupsafe", "packaging.specifiers", "pip._vendor.requests"),
    *("pip._vendor.urllib3", "platformdirs", "pluggy", "pydantic"),
    *("redis", "rich.console", "rich.table", "starlette.applications", "starlette.testclient"),
    *("tzlocal", "uvicorn", "watchdog.observers", "websockets", "werkzeug", "wsproto", "yarl"),
]
LIBRARY = ["argparse", "asyncio", "dataclasses", "http.client", "logging.handlers", "tarfile"]


def main() -> None:
    """Look at every module of the packages that is loaded."""
    for name in [*PACKAGES, *LIBRARY]:
        with suppress(ImportError):
            importlib.import_module(name)
    tops = {name.partition(".")[0] for name in [*PACKAGES, *LIBRARY]}
    drifted: list[str] = []
    compared = 0
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in tops and file is not None and file.endswith(".py"):
            compared += 1
            found = running(name, Path(file).read_bytes(), (), (), 0.0)
            if found.state != "verified":
                drifted.append(f"{name}: {found.first}")
    print(json.dumps([compared, drifted]))


main()
