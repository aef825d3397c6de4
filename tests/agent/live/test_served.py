"""Real servers and workers: whatever a request begins sees its scope, and nobody else's."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [pytest.mark.e2e]

PROGRAMS = Path(__file__).parent / "programs"
UP_S = 20.0
REQUESTS = 60


@pytest.mark.parametrize(
    "program",
    [
        ("asgi_server", "asyncio"),
        ("asgi_server", "uvloop"),
        ("django_app", "wsgi"),
        ("django_app", "asgi"),
        ("gevent_server",),
        ("celery_worker", "solo"),
        ("celery_worker", "threads"),
        ("rq_jobs",),
    ],
    ids=" ".join,
)
def test_a_server(program: tuple[str, ...]) -> None:
    """The program serves, asks, and looks at what is left."""
    name, *arguments = program
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@contextlib.contextmanager
def gunicorn(kind: str) -> Generator[str]:
    """A server with one worker of this kind; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        bind = f"fd://{listener.fileno()}"
        command = ["-m", "gunicorn", "-k", kind, "--threads", "4", "-b", bind]
        with subprocess.Popen(
            [sys.executable, *command, "--no-control-socket", "flask_app:app"],
            cwd=PROGRAMS,
            pass_fds=[listener.fileno()],
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                process.terminate()
                process.communicate(timeout=UP_S)


def ask(url: str) -> str:
    """The body of an answer."""
    with urllib.request.urlopen(url, timeout=UP_S) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_flask_under_gunicorn(kind: str) -> None:
    """Views, streams, files and errors, many at once; the last to ask is alone."""
    with gunicorn(kind) as base, ThreadPoolExecutor(8) as clients:

        def judge(number: int) -> bool:
            name = f"user-{number}"
            if number % 2:
                return ask(f"{base}/stream?user={name}").split() == [name] * 3
            return bool(json.loads(ask(f"{base}/?user={name}")) == [name] * 4)

        assert all(clients.map(judge, range(REQUESTS)))
        assert ask(f"{base}/file?user=a") == (PROGRAMS / "flask_app.py").read_text()
        with pytest.raises(urllib.error.HTTPError) as failed:
            ask(f"{base}/error?user=b")
        failed.value.close()
        until = time.monotonic() + UP_S
        # a server may tell its client that all is sent before it closes the response
        while (left := json.loads(ask(f"{base}/open?user=me"))) != ["me"]:
            assert time.monotonic() < until, left
