"""A Flask application whose views say which key they see, for the servers of gunicorn."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import flask

from zdpatch import agent
from zdpatch.patcher.scopes import PIN, older

if TYPE_CHECKING:
    from collections.abc import Iterator

pool = ThreadPoolExecutor(4)
app = agent.flask(flask.Flask(__name__), key=lambda request: request.args.get("user"))


def key() -> str | None:
    """Of the scope this runs in."""
    scope = PIN.get(None)
    return "outside" if scope is None else scope.key


@app.get("/")
def view() -> list[str | None]:
    """The request's thread, one it starts, and an executor's."""
    seen = [key(), pool.submit(key).result()]
    thread = threading.Thread(target=lambda: seen.append(key()))
    thread.start()
    thread.join()
    time.sleep(0.001)
    return [*seen, key()]


@app.get("/stream")
def stream() -> flask.Response:
    """Made while it is sent."""

    def pieces() -> Iterator[str]:
        for _ in range(3):
            time.sleep(0.001)
            yield f"{key()} "

    return flask.Response(pieces(), mimetype="text/plain")


@app.get("/file")
def file() -> flask.Response:
    """Sent by the server itself, where it can."""
    return flask.send_file(__file__)


@app.get("/open")
def still_open() -> list[str | None]:
    """Who has a scope."""
    return [scope.key for scope in older(sys.maxsize)]


@app.get("/error")
def error() -> str:
    """Fails."""
    raise RuntimeError(key())
