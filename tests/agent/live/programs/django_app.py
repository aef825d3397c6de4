"""Django, sync and async, in one process: WSGI under a threading server, ASGI under uvicorn."""

from __future__ import annotations

import asyncio
import gc
import socketserver
import sys
import threading
import time
import urllib.request
import wsgiref.simple_server
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import django
import httpx
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from zdpatch.patcher.scopes import PIN, older

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

REQUESTS = 60
pool = ThreadPoolExecutor(4)


def key() -> str | None:
    """Of the scope this runs in."""
    return PIN.get().key


def user(request: HttpRequest) -> str:
    """What the setting names."""
    return request.GET["user"]


def sync_view(request: HttpRequest) -> HttpResponse:
    """A thread of the server's, or of Django's."""
    del request
    return JsonResponse([key(), pool.submit(key).result(), key()], safe=False)


async def async_view(request: HttpRequest) -> HttpResponse:
    """A task of the server's, or of Django's."""
    del request
    child = asyncio.create_task(asyncio.to_thread(key))
    return JsonResponse([key(), await child, key()], safe=False)


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Made while it is sent."""

    def pieces() -> Iterator[str]:
        for _ in range(3):
            time.sleep(0.001)
            yield f"{key()} "

    del request
    return StreamingHttpResponse(pieces())


async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Made while it is sent, by the loop."""

    async def pieces() -> AsyncIterator[str]:
        for _ in range(3):
            await asyncio.sleep(0.001)
            yield f"{key()} "

    del request
    return StreamingHttpResponse(pieces())


def file_view(request: HttpRequest) -> FileResponse:
    """A file."""
    del request
    return FileResponse(open(__file__, "rb"))  # noqa: PTH123 - closed with the response


urlpatterns = [
    path("sync", sync_view),
    path("async", async_view),
    path("sync-stream", sync_stream),
    path("async-stream", async_stream),
    path("file", file_view),
]


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A thread for each request."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """None is expected."""
        failures.append((request, client_address))


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Not this either."""


failures: list[object] = []


def judge(kind: str, name: str, text: str) -> None:
    """Nobody sees another's key."""
    if kind == "file":
        assert "class Quiet" in text
        return
    seen = text.split() if "stream" in kind else httpx.Response(200, text=text).json()
    assert seen == [name] * 3, (kind, name, seen)


def over_wsgi() -> None:
    """All kinds at once, and then nothing is open."""
    kinds = ("sync", "async", "sync-stream", "file")
    server = wsgiref.simple_server.make_server(
        "127.0.0.1", 0, get_wsgi_application(), Server, Quiet
    )
    serving = threading.Thread(target=server.serve_forever)
    serving.start()

    def ask(number: int) -> None:
        kind, name = kinds[number % len(kinds)], f"user-{number}"
        url = f"http://127.0.0.1:{server.server_port}/{kind}?user={name}"
        with urllib.request.urlopen(url) as answer:
            judge(kind, name, answer.read().decode())

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(ask, range(REQUESTS)))
    server.shutdown()
    serving.join()
    server.server_close()


async def over_asgi() -> None:
    """The same under an event loop."""
    kinds = ("sync", "async", "async-stream", "file")
    server = uvicorn.Server(
        uvicorn.Config(get_asgi_application(), port=0, lifespan="off", log_level="warning")  # type: ignore[arg-type]
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:

        async def ask(number: int) -> None:
            kind, name = kinds[number % len(kinds)], f"user-{number}"
            judge(kind, name, (await client.get(f"/{kind}?user={name}")).text)

        await asyncio.gather(*(ask(number) for number in range(REQUESTS)))
    server.should_exit = True
    await serving


def main() -> None:
    """Both, one after the other."""
    settings.configure(
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["zdpatch.agent.django_requests.middleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
        USE_TZ=True,
        ZDPATCH_REQUEST_KEY=user if sys.argv[1] == "wsgi" else f"{__name__}.user",
    )
    django.setup()
    if sys.argv[1] == "wsgi":
        over_wsgi()
    else:
        asyncio.run(over_asgi())
    pool.shutdown()
    gc.collect()
    assert failures == []
    assert older(sys.maxsize) == [], older(sys.maxsize)
    print("ok")


main()
