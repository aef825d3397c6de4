"""What a request scope costs a request, beside the same requests without one. Prints JSON.

Short rounds in turn, the best of each: what other processes of the machine took is no part of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zdpatch import agent
from zdpatch.agent import carry

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = 1_000
ROUNDS = 400


def best(*runs: Callable[[], object], calls: int = CALLS) -> list[float]:
    """Nanoseconds a call of each, where every one of `runs` makes `calls`."""
    least = [float("inf")] * len(runs)
    for _ in range(ROUNDS):
        for number, run in enumerate(runs):
            started = time.perf_counter_ns()
            run()
            least[number] = min(least[number], (time.perf_counter_ns() - started) / calls)
    return least


def blocks() -> tuple[float, float]:
    """`with agent.request(key)` and nothing inside."""

    def with_scope() -> None:
        for _ in range(CALLS):
            with agent.request("user-42"):
                pass

    def without() -> None:
        for _ in range(CALLS):
            pass

    scope, nothing = best(with_scope, without)
    return scope - nothing, nothing


def wsgi() -> tuple[float, float]:
    """A WSGI application that gives one piece in a generator, served to its end."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:  # noqa: ANN401
        start_response("200 OK", [])
        yield environ["PATH_INFO"].encode()

    def serve(served: Callable[..., Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(CALLS):
                with contextlib.closing(served({"PATH_INFO": "/"}, print_nothing)) as body:
                    for _ in body:
                        pass

        return run

    scoped, plain = best(serve(agent.wsgi(app)), serve(app))
    return scoped - plain, plain


def print_nothing(*_: object) -> None:
    """The server's `start_response`."""


def asgi() -> tuple[float, float]:
    """An ASGI application that sends one message, in a loop that runs already."""

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        del scope, receive
        await send({"type": "http.response.body"})

    async def sent(message: object) -> None:
        del message

    async def serve(served: Callable[..., Any]) -> None:
        scope = {"type": "http"}
        for _ in range(CALLS):
            await served(scope, None, sent)

    with asyncio.Runner() as runner:
        scoped, plain = best(
            lambda: runner.run(serve(agent.asgi(app))), lambda: runner.run(serve(app))
        )
    return scoped - plain, plain


def submits() -> tuple[float, float]:
    """A job of an executor, begun inside a request and waited for."""
    with ThreadPoolExecutor(1) as pool:

        def run() -> None:
            for _ in range(CALLS // 10):
                pool.submit(int).result()

        def inside() -> None:
            with agent.request():
                run()

        carry.remove()
        plain = best(run, calls=CALLS // 10)[0]
        carry.install()
        return best(inside, calls=CALLS // 10)[0] - plain, plain


def main() -> None:
    """Each figure is what is added, in nanoseconds."""
    gc.disable()
    added, nothing = blocks()
    also = {"an empty loop": round(nothing)}
    for what, measure in (("WSGI", wsgi), ("ASGI", asgi), ("a job of an executor", submits)):
        more, plain = measure()
        also |= {f"{what}: more": round(more), f"{what}: without": round(plain)}
    print(
        json.dumps(
            {
                "figure": "request scope",
                "unit": "ns",
                "value": round(added),
                "baseline": round(nothing),
                "baseline is": "the same loop without a scope",
                "reach": 1000,
                "met": added <= 1000,
                "also": also,
            }
        )
    )


main()
