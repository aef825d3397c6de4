"""An application in a scope gives and takes what it did without one."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from zdpatch import agent
from zdpatch.agent import carry
from zdpatch.patcher import scopes
from zdpatch.patcher.scopes import PIN, older

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

EVER = sys.maxsize


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Of any test: no scope, and nothing that was replaced."""
    yield
    carry.remove()
    gc.collect()
    assert older(EVER) == []
    assert PIN.get(None) is None


def environ(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - as WSGI has it
    """Of a request."""
    made: dict[str, Any] = {"HTTP_X_USER": "ann", **more}
    setup_testing_defaults(made)
    return made


def answer(status: str, headers: list[tuple[str, str]], error: object = None) -> Callable[..., Any]:
    """The server's `start_response`."""
    del status, headers, error
    return print


def user(request: dict[str, Any]) -> str:
    """The key of a WSGI request."""
    return str(request["HTTP_X_USER"])


def same(file: object) -> object:
    """What a server may give as its wrapper, so that it knows the file again."""
    return file


def here() -> bytes:
    """The key of the scope that this runs in."""
    return str(PIN.get().key).encode()


# ------------------------------------------------------------------------------------------- WSGI


class Body:
    """A response that is made while it is sent, and closed."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        self.seen.append(b"iter " + here())
        yield here()
        yield here()

    def close(self) -> None:
        """By the server."""
        self.seen.append(b"close " + here())


def test_the_whole_response_is_in_the_scope() -> None:
    """Call, pieces and close; between them the server's thread is in none."""
    body = Body()

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request
        start_response("200 OK", [("Content-Type", "text/plain")])
        body.seen.append(b"call " + here())
        return body

    served: Any = agent.wsgi(app, key=user)(environ(), answer)
    assert PIN.get(None) is None
    pieces: list[bytes] = []
    for piece in served:
        pieces.append(piece)
        assert PIN.get(None) is None
    assert pieces == [b"ann", b"ann"]
    assert [(scope.key, scope.left) for scope in older(EVER)] == [("ann", False)]
    served.close()
    assert body.seen == [b"call ann", b"iter ann", b"close ann"]
    assert PIN.get(None) is None


def test_pieces_in_other_threads_and_contexts() -> None:
    """Wherever the server asks for a piece, it is made in the request's scope."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request
        start_response("200 OK", [])
        for _ in range(3):
            yield here()

    served: Any = agent.wsgi(app, key=user)(environ(), answer)
    pieces = [contextvars.Context().run(next, served)]
    thread = threading.Thread(target=lambda: pieces.append(next(served)))
    thread.start()
    thread.join()
    pieces.append(contextvars.copy_context().run(next, served))
    assert pieces == [b"ann"] * 3
    contextvars.Context().run(served.close)


def test_a_response_that_nobody_closes() -> None:
    """A server that forgets does not keep the scope open for ever."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request
        start_response("200 OK", [])
        yield b""

    served: Any = agent.wsgi(app)(environ(), answer)
    assert len(older(EVER)) == 1
    next(served)
    del served
    gc.collect()
    assert older(EVER) == []


@pytest.mark.parametrize("body", [[b"x"], (b"x", b"y")])
def test_what_is_made_goes_out_as_it_is(body: Iterable[bytes]) -> None:
    """Nothing runs any more, and a server may ask how much there is."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request, start_response
        return body

    assert agent.wsgi(app)(environ(), answer) is body


def test_a_file_goes_out_as_it_is() -> None:
    """A server sends by itself what its own wrapper made, and recognises that."""
    file = io.BytesIO(b"content")

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Any:  # noqa: ANN401
        start_response("200 OK", [])
        return request["wsgi.file_wrapper"](file)

    served = agent.wsgi(app)(environ(**{"wsgi.file_wrapper": FileWrapper}), answer)
    assert type(served) is FileWrapper
    assert agent.wsgi(app)(environ(**{"wsgi.file_wrapper": same}), answer) is file


def test_a_body_that_knows_its_length() -> None:
    """It knows it still; one that does not has none."""

    class Sized(list[bytes]):
        pass

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del start_response
        return Sized([b"x"]) if request["sized"] else iter([b"x"])

    sized: Any = agent.wsgi(app)(environ(sized=True), answer)
    assert len(sized) == 1
    assert not hasattr(agent.wsgi(app)(environ(sized=False), answer), "__len__")
    sized.close()


def test_errors_of_a_wsgi_application_pass() -> None:
    """At each of the places where one may come from."""

    class Bad:
        def __iter__(self) -> Iterator[bytes]:
            raise KeyError("iter")

        def close(self) -> None:
            raise KeyError("close")

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del start_response
        if request["bad"]:
            raise KeyError("call")
        return Bad()

    scoped = agent.wsgi(app)
    with pytest.raises(KeyError, match="call"):
        scoped(environ(bad=True), answer)
    served: Any = scoped(environ(bad=False), answer)
    with pytest.raises(KeyError, match="iter"):
        next(served)
    with pytest.raises(KeyError, match="close"):
        served.close()


def test_the_standard_is_kept() -> None:
    """The validator of the standard library finds nothing on either side."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield here()

    checked = validator(agent.wsgi(validator(app), key=user))
    served: Any = checked(environ(REQUEST_METHOD="GET", QUERY_STRING=""), answer)
    assert list(served) == [b"ann"]
    served.close()


def test_twice_is_once() -> None:
    """A middleware inside another's request is part of it, and gives it the key it has not."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        del request, start_response
        seen.append(len(older(EVER)))
        yield here()

    seen: list[int] = []
    served: Any = agent.wsgi(agent.wsgi(app, key=user))(environ(), answer)
    assert (list(served), seen) == ([b"ann"], [1])
    served.close()


def test_a_key_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """The request has none, and the log says so once."""

    def app(request: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        del request, start_response
        return [here()]

    scoped = agent.wsgi(app, key=lambda request: request["no such"])
    with caplog.at_level(logging.WARNING, "zdpatch"):
        assert [scoped(environ(), answer) for _ in range(2)] == [[b"None"]] * 2
    assert len(caplog.records) == 1
    assert "no such" in caplog.text
    assert agent.wsgi(app, key=lambda _: None)(environ(), answer) == [b"None"]
    assert agent.wsgi(app, key=lambda _: 42)(environ(), answer) == [b"42"]


# ------------------------------------------------------------------------------------------- ASGI


class Asgi:
    """An application with attributes, like those that frameworks make."""

    state = "state"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        """Note where it was called, and answer."""
        pin = PIN.get(None)
        self.seen.append((scope["type"], None if pin is None else pin.key))
        await asyncio.sleep(0)
        await send(await receive())
        if scope.get("fails"):
            raise KeyError("x")


async def call(app: Any, scope: dict[str, Any]) -> list[object]:  # noqa: ANN401 - ASGI
    """What an application sends."""
    sent: list[object] = []

    async def receive() -> object:
        return scope["type"]

    async def send(message: object) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def path(scope: Any) -> str:  # noqa: ANN401 - ASGI
    """The key of an ASGI request."""
    return str(scope["path"])


@pytest.mark.parametrize(
    ("kind", "websockets", "expected"),
    [
        ("http", True, "/a"),
        ("websocket", True, "/a"),
        ("websocket", False, None),
        ("lifespan", True, None),
    ],
)
def test_what_is_a_request(kind: str, websockets: bool, expected: str | None) -> None:
    """HTTP is, WebSockets are if one wants, the lifespan is not; messages pass."""
    app = Asgi()
    scoped = agent.asgi(app, key=path, websockets=websockets)
    assert asyncio.run(call(scoped, {"type": kind, "path": "/a"})) == [kind]
    assert app.seen == [(kind, expected)]


def test_errors_of_an_asgi_application_pass() -> None:
    """And its scope ends."""

    async def serve() -> None:
        scoped = agent.asgi(Asgi())
        with pytest.raises(KeyError, match="x"):
            await call(scoped, {"type": "http", "fails": True})
        assert PIN.get(None) is None

    asyncio.run(serve())


def test_what_else_an_application_has() -> None:
    """Attributes are reached as before, and what is not there is not."""
    scoped = agent.asgi(Asgi())
    assert scoped.state == "state"
    with pytest.raises(AttributeError, match="nothing"):
        _ = scoped.nothing  # type: ignore[attr-defined]


def test_concurrent_requests_on_one_loop() -> None:
    """Each has its own scope and epoch: one that began before an epoch stays before it."""
    epochs: dict[str, list[int]] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        del receive, send
        seen = epochs.setdefault(scope["path"], [])
        seen.append(PIN.get().epoch)
        await asyncio.sleep(0.001)
        seen.append(PIN.get().epoch)

    async def serve() -> int:
        scoped = agent.asgi(app, key=path)
        first = asyncio.create_task(call(scoped, {"type": "http", "path": "old"}))
        await asyncio.sleep(0)
        began = scopes.advance()
        assert [scope.key for scope in older(began)] == ["old"]
        await asyncio.gather(first, call(scoped, {"type": "http", "path": "new"}))
        return began

    began = asyncio.run(serve())
    assert epochs["new"] == [began] * 2
    assert max(epochs["old"]) < began


# ----------------------------------------------------------------------------- where there are none

PROGRAM = """
import os, sys
if sys.argv[1] == "off":
    os.environ["ZDPATCH"] = "off"
elif sys.argv[1] == "broken":
    sys.modules["zdpatch.patcher.scopes"] = None
from zdpatch import agent
before = set(sys.modules)
app = lambda *_: []
with agent.request("a"), agent.request(), agent.request(key="b"):
    pass
agent.celery()
assert (agent.wsgi(app) is app, agent.asgi(app) is app, agent.flask(app) is app) == (True,) * 3
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
assert sys.argv[1] != "off" or not loaded, loaded
"""


@pytest.mark.parametrize("how", ["off", "broken"])
def test_without_scopes(how: str) -> None:
    """`ZDPATCH=off` makes none, and loads nothing; what cannot be loaded harms no application."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("requests are no scopes" in done.stderr) is (how == "broken")
