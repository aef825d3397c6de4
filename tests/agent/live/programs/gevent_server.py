"""Under gevent's monkey patching: requests of a real server, and all that they may spawn."""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import urllib.request  # noqa: E402
from concurrent.futures import ThreadPoolExecutor  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.threadpool  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

from zdpatch import agent  # noqa: E402
from zdpatch.agent import carry  # noqa: E402
from zdpatch.patcher.scopes import PIN, older  # noqa: E402

REQUESTS = 100
pool = ThreadPoolExecutor(4)
jobs: list[gevent.Greenlet] = []


def key(_: object = None) -> str | None:
    """Of the scope this runs in."""
    scope = PIN.get(None)
    return "outside" if scope is None else scope.key


class Mine(gevent.Greenlet):
    """Overrides what a greenlet runs."""

    def _run(self) -> str | None:
        return key()


def in_time() -> str | None:
    """A request inside a request, left by a timeout."""
    with gevent.Timeout(0.001, exception=False), agent.request("inner"):
        gevent.sleep(10)
    return key()


def app(environ: Any, start_response: Any) -> list[bytes]:  # noqa: ANN401 - WSGI
    """All ways to begin something."""
    me = environ["PATH_INFO"][1:]
    group = gevent.pool.Pool(2)
    native = gevent.get_hub().threadpool
    seen = [
        key(),
        gevent.spawn(key).get(),
        gevent.spawn_later(0.001, key).get(),
        Mine.spawn().get(),
        *group.map(key, [1, 2]),
        *group.imap_unordered(key, [1, 2]),
        native.spawn(key).get(),
        native.apply(key, (1,)),
        gevent.threadpool.ThreadPoolExecutor(1).submit(key).result(),
        pool.submit(key).result(),
        in_time(),
    ]
    thread = threading.Thread(target=lambda: seen.append(key()))
    thread.start()
    thread.join()
    start_response("200 OK", [])
    return [b"ok" if set(seen) == {me} else repr(seen).encode()]


def ask(url: str) -> bytes:
    """One request."""
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def main() -> None:
    """Serve many at once; then nothing is left, in no pool."""
    scoped = agent.wsgi(app, key=lambda environ: environ["PATH_INFO"][1:])
    server = WSGIServer(("127.0.0.1", 0), scoped, log=None)
    server.start()
    urls = [f"http://127.0.0.1:{server.server_port}/user-{n}" for n in range(REQUESTS)]
    answers = gevent.pool.Pool(20).map(ask, urls)
    assert answers == [b"ok"] * REQUESTS, [each for each in answers if each != b"ok"][:3]
    assert pool.submit(key).result() == "outside"
    assert gevent.get_hub().threadpool.spawn(key).get() == "outside"
    assert gevent.spawn(key).get() == "outside"
    server.stop()
    del server
    gevent.sleep(0.01)
    gc.collect()
    assert older(sys.maxsize) == [], older(sys.maxsize)
    carry.remove()
    with agent.request("a"):
        assert gevent.spawn(key).get() == "outside"
        assert gevent.get_hub().threadpool.spawn(key).get() == "outside"
    print("ok")


main()
