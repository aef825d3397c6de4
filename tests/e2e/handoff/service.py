"""One small service as ASGI, as WSGI, and on http.server; each answer names its worker.

A file `fault` beside it says what a new generation does wrong: "raise" at import, "hang" at import,
"die" before all are ready, "flap" when
it has served a while.
"""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHUNKS = 10
STREAM_S = 1.0


def _fault() -> str:
    try:
        return Path(__file__).with_name("fault").read_text().strip()
    except FileNotFoundError:
        return ""


match _fault():
    case "raise":
        raise RuntimeError("this release is broken")
    case "hang":
        threading.Event().wait(600)
    case "die":
        threading.Timer(0.05, os._exit, (3,)).start()
    case "flap":
        threading.Timer(4.0, os._exit, (3,)).start()
    case _:
        pass


if "NOTIFY_SOCKET" in os.environ and os.environ.get("TELLS"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        telling.sendto(b"READY=1", "\0" + os.environ["NOTIFY_SOCKET"][1:])


def name() -> bytes:
    """Which worker answers."""
    return f"{os.environ['ZDPATCH_GENERATION']}-{os.getpid()}\n".encode()


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """As ASGI."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    else:
        while (await receive()).get("more_body"):
            pass
        long = {"/stream": STREAM_S, "/long": 20.0}.get(scope["path"])
        headers = [] if long else [(b"content-length", b"%d" % len(name()))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if long:
            for _ in range(CHUNKS):
                await send({"type": "http.response.body", "body": name(), "more_body": True})
                await asyncio.sleep(long / CHUNKS)
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["path"] == "/post":
            await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": name()})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """As WSGI."""
    while environ["wsgi.input"].read(8192):
        pass
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [])
        return _stream()
    if environ["PATH_INFO"] == "/post":
        time.sleep(0.3)
    start_response("200 OK", [("Content-Length", str(len(name())))])
    return [name()]


def _stream() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield name()
        time.sleep(STREAM_S / CHUNKS)


class Handler(http.server.BaseHTTPRequestHandler):
    """On http.server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """/ and /stream."""
        self.send_response(200)
        if self.path != "/stream":
            self.send_header("Content-Length", str(len(name())))
            self.end_headers()
            self.wfile.write(name())
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in (*_stream(), b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    def do_POST(self) -> None:
        """/post."""
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(name())))
        self.end_headers()
        self.wfile.write(name())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
