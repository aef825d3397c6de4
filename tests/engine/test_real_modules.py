"""Real modules of the standard library are what their source says: no false drift is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = Path(__file__).parent / "real_modules_child.py"
MODULES = [
    "argparse",
    "ast",
    "asyncio.base_events",
    "asyncio.tasks",
    "bisect",
    "calendar",
    "collections",
    "concurrent.futures",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "email.message",
    "enum",
    "fractions",
    "ftplib",
    "functools",
    "gettext",
    "glob",
    "gzip",
    "heapq",
    "hmac",
    "html.parser",
    "http.client",
    "http.cookies",
    "inspect",
    "ipaddress",
    "json.decoder",
    "logging",
    "logging.handlers",
    "mailbox",
    "mimetypes",
    "numbers",
    "optparse",
    "pathlib",
    "pickle",
    "platform",
    "pprint",
    "queue",
    "random",
    "sched",
    "selectors",
    "shelve",
    "shutil",
    "smtplib",
    "socketserver",
    "ssl",
    "statistics",
    "string",
    "subprocess",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "timeit",
    "tokenize",
    "traceback",
    "types",
    "unittest.case",
    "unittest.mock",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "warnings",
    "weakref",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
    "zipfile",
]


@pytest.mark.timeout(300)
def test_real_modules_are_what_their_source_says() -> None:
    """Each takes a patch that moves its lines and adds a function, and gives all of it back."""
    done = subprocess.run(
        [sys.executable, str(CHILD), *MODULES],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
