"""FastAPI under uvicorn: many requests at once, each of which sees its own key everywhere."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn
from fastapi import BackgroundTasks, FastAPI
from starlette.responses import StreamingResponse

from zdpatch import agent
from zdpatch.patcher import scopes
from zdpatch.patcher.scopes import PIN, older

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

REQUESTS = 200
pool = ThreadPoolExecutor(4)
after: dict[str, str | None] = {}
lives: list[object] = []


def key() -> str | None:
    """Of the scope this runs in."""
    return PIN.get().key


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Of no request."""
    del app
    lives.append(PIN.get(None))
    yield
    lives.append(PIN.get(None))


app = FastAPI(lifespan=lifespan)


@app.get("/async/{name}")
async def asynchronous(name: str, background: BackgroundTasks) -> list[str | None]:
    """Tasks, callbacks, executors, and what runs after the response."""

    async def child() -> str | None:
        await asyncio.sleep(0.001)
        return key()

    def note() -> None:
        after[name] = key()

    background.add_task(note)
    loop = asyncio.get_running_loop()
    seen = list(await asyncio.gather(child(), asyncio.create_task(child())))
    seen.append(await asyncio.to_thread(key))
    seen.append(await loop.run_in_executor(pool, key))
    seen.append(await loop.run_in_executor(None, key))
    return seen


@app.get("/sync/{name}")
def synchronous(name: str) -> list[str | None]:
    """In a thread of Starlette's."""
    del name
    seen = [key(), pool.submit(key).result()]
    thread = threading.Thread(target=lambda: seen.append(key()))
    thread.start()
    thread.join()
    return seen


@app.get("/stream/{name}")
def stream(name: str) -> StreamingResponse:
    """Made piece by piece in threads of Starlette's."""

    def pieces() -> Iterator[str]:
        for _ in range(3):
            time.sleep(0.001)
            yield f"{key()} "

    del name
    return StreamingResponse(pieces())


async def ask(client: httpx.AsyncClient, kind: str, name: str) -> set[object]:
    """What a request saw, less its own key."""
    answer = await client.get(f"/{kind}/{name}")
    seen: list[Any] = answer.text.split() if kind == "stream" else answer.json()
    assert len(seen) >= 3
    return {each for each in seen if each != name}


async def main(loop: str) -> None:
    """Serve, ask, and see that nothing is left."""
    scoped: Any = agent.asgi(app, key=lambda scope: scope["path"].rpartition("/")[2])
    server = uvicorn.Server(
        uvicorn.Config(scoped, port=0, loop=loop, log_level="warning", timeout_keep_alive=1)  # type: ignore[arg-type]
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        kinds = ("async", "sync", "stream")
        asked = [ask(client, kinds[n % 3], f"user-{n}") for n in range(REQUESTS)]
        assert await asyncio.gather(*asked) == [set()] * REQUESTS
        assert after
        assert all(name == seen for name, seen in after.items())
        epoch = scopes.advance()
        assert [scope for scope in older(epoch) if not scope.left] == []
        assert await ask(client, "async", "later") == set()
    server.should_exit = True
    await serving
    assert lives == [None, None], lives


def run() -> None:
    """With the loop that was asked for."""
    if sys.argv[1] == "uvloop":
        import uvloop  # noqa: PLC0415

        uvloop.run(main("none"))
    else:
        asyncio.run(main("none"))
    gc.collect()
    assert older(sys.maxsize) == [], older(sys.maxsize)
    print("ok")


run()
