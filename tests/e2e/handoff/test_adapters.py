"""Each server is replaced again and again under a mixed load, and no client notices.

HANDOFF_ROUNDS says how often (default: as often as a gate has time for).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e.handoff.fleet import running
from tests.e2e.handoff.load import answer, clients

if TYPE_CHECKING:
    from pathlib import Path

PYTHON = sys.executable
ROUNDS = int(os.environ.get("HANDOFF_ROUNDS", "2"))
UVICORN = (PYTHON, "-m", "uvicorn", "--no-access-log", "--timeout-keep-alive", "10")
GUNICORN = (PYTHON, "-m", "gunicorn", "--no-control-socket", "--keep-alive", "10")
SERVERS: dict[str, tuple[tuple[str, ...], bool]] = {
    "http.server": ((PYTHON, "service.py", "PORT"), False),
    "uvicorn": ((*UVICORN, "service:asgi"), True),
    "uvicorn-h11": ((*UVICORN, "--http", "h11", "--loop", "asyncio", "service:asgi"), True),
    "gunicorn-sync": ((*GUNICORN, "-w", "2", "service:wsgi"), False),
    "gunicorn-gthread": ((*GUNICORN, "-k", "gthread", "--threads", "8", "service:wsgi"), False),
    "gunicorn-uvicorn": ((*GUNICORN, "-k", "uvicorn_worker.UvicornWorker", "service:asgi"), True),
    "hypercorn": ((PYTHON, "-m", "hypercorn", "--keep-alive", "10", "service:asgi"), True),
    "aiohttp": ((PYTHON, "service_aiohttp.py", "PORT"), True),
    "waitress": ((PYTHON, "-m", "waitress", "--threads", "8", "service:wsgi"), False),
}
"""Name -> its command, and whether it has WebSockets."""


@pytest.mark.e2e
@pytest.mark.timeout(170)
@pytest.mark.parametrize("server", SERVERS)
def test_replacements_under_load(tmp_path: Path, server: str) -> None:
    """Failed 0, closed unread 0, keep-alive races 0, and nobody old answers afterwards."""
    command, websockets = SERVERS[server]
    with running(tmp_path, *command, options=("--warm", "1s", "--spread", "0.5s")) as fleet:
        fleet.wait(["serving", "serving"])
        with clients(fleet.where, websockets=websockets) as tally:
            for number in range(2, ROUNDS + 2):
                done = fleet.replace()["done"]
                assert done["ok"], fleet.log
                assert answer(fleet.where).startswith(f"{number}-")
        assert tally.clean(), tally
        assert tally.requests > 20 * ROUNDS
        assert (tally.closed_websockets > 0) == websockets
