"""Clients of every kind at once, and a count of all that a client would call a failure.

A failure: refused, closed or reset before a byte of the answer on a new connection, an answer that
is cut off, a status of 5xx, no answer in ten seconds, a POST lost on a reused connection. Counted
apart: connections accepted and closed unread (lazy), GETs on a reused connection that was being
closed (HTTP lets a client send those again), WebSockets that end without 1000, 1001 or 1012.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

PATIENCE_S = 10.0
BODY = b"x" * 32768


@dataclass
class Tally:
    """What the clients saw."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    lazy: int = 0
    races: Counter[str] = field(default_factory=Counter[str])
    bad_websockets: Counter[str] = field(default_factory=Counter[str])
    closed_websockets: int = 0
    slowest_s: float = 0.0
    seen: dict[str, float] = field(default_factory=dict[str, float])  # worker -> begun last

    def clean(self) -> bool:
        """Whether nobody noticed anything."""
        return self.noticed() == 0

    def noticed(self) -> int:
        """How often somebody did."""
        counted = self.failed.total() + self.races.total() + self.bad_websockets.total()
        return counted + self.lazy


class Lost(Exception):  # noqa: N818 - what happened to the connection
    """The connection ended: `how` is "closed" or "reset"; `begun` when part of an answer came."""

    def __init__(self, how: str, *, begun: bool) -> None:
        super().__init__(how)
        self.how = how
        self.begun = begun


class Connection:
    """One HTTP/1.1 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.reused = False
        self.open = True

    async def ask(self, *pieces: bytes, pause_s: float = 0.0) -> bytes:
        """Send these pieces and read one answer. Raises Lost, and ValueError for 5xx."""
        begun = False
        try:
            for index, piece in enumerate(pieces):
                if index:
                    await asyncio.sleep(pause_s)
                self.writer.write(piece)
                await self.writer.drain()
            head = await self.reader.readuntil(b"\r\n\r\n")
            begun = True
            body = await self._body(head.lower())
        except asyncio.IncompleteReadError as error:
            raise Lost("closed", begun=begun or bool(error.partial)) from None
        except (ConnectionError, OSError):
            raise Lost("reset", begun=begun) from None
        if not head.startswith(b"HTTP/1.1 2") and not head.startswith(b"HTTP/1.0 2"):
            raise ValueError(head.split(b"\r\n")[0].decode())
        self.reused = True
        return body

    async def _body(self, head: bytes) -> bytes:
        if b"connection: close" in head or head.startswith(b"http/1.0"):
            self.open = False
        for line in head.split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return await self.reader.readexactly(int(line[15:]))
        if b"transfer-encoding: chunked" in head:
            return await self._chunks()
        self.open = False
        return await self.reader.read()

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)
        return body

    def close(self) -> None:
        """Go away."""
        self.writer.close()


def get(path: bytes = b"/") -> bytes:
    """A GET."""
    return b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n"


class Load:
    """All clients of one service until `stop`."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], tally: Tally) -> None:
        self._connect = connect
        self.tally = tally
        self.over = asyncio.Event()

    @asynccontextmanager
    async def connection(self, kind: str) -> AsyncGenerator[Connection | None]:
        """A new connection; None when there is none to be had."""
        try:
            made = await asyncio.wait_for(self._connect(), PATIENCE_S)
        except (OSError, TimeoutError) as error:
            self.tally.failed[f"{kind}: {type(error).__name__}"] += 1
            await asyncio.sleep(0.05)
            yield None
            return
        try:
            yield made
        finally:
            made.close()

    async def once(
        self, kind: str, one: Connection, *pieces: bytes, pause_s: float = 0.0, safe: bool = True
    ) -> bool:
        """One request; False when the connection is of no more use."""
        reused, begun = one.reused, time.monotonic()
        self.tally.requests += 1
        try:
            body = await asyncio.wait_for(one.ask(*pieces, pause_s=pause_s), PATIENCE_S)
        except TimeoutError:
            self.tally.failed[f"{kind}: no answer"] += 1
            return False
        except ValueError as error:
            self.tally.failed[f"{kind}: {error}"] += 1
            return False
        except Lost as lost:
            if lost.begun:
                self.tally.failed[f"{kind}: cut off"] += 1
            elif reused and safe:
                self.tally.races[f"{kind}: {lost.how}"] += 1
            elif kind == "lazy" and not reused:
                self.tally.lazy += 1
            else:
                self.tally.failed[f"{kind}: {lost.how}"] += 1
            return False
        self.tally.slowest_s = max(self.tally.slowest_s, time.monotonic() - begun)
        self.tally.seen[body.split()[0].decode()] = begun
        return one.open

    async def fresh(self) -> None:
        """A connection for each request."""
        while not self.over.is_set():
            async with self.connection("fresh") as one:
                if one is not None:
                    await self.once("fresh", one, get())
            await self._pause(0.04)

    async def reusing(self, kind: str, least: float, most: float) -> None:
        """Request after request on one connection."""
        while not self.over.is_set():
            async with self.connection(kind) as one:
                goes_on = one is not None
                while one is not None and goes_on and not self.over.is_set():
                    goes_on = await self.once(kind, one, get())
                    await self._pause(random.uniform(least, most))

    async def lazy(self) -> None:
        """The first byte comes long after the connection."""
        while not self.over.is_set():
            async with self.connection("lazy") as one:
                if one is not None:
                    await asyncio.sleep(random.uniform(0.1, 0.25))
                    await self.once("lazy", one, get())

    async def posting(self) -> None:
        """A body in two pieces, and an answer that takes a while."""
        head = b"POST /post HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        half = len(BODY) // 2
        while not self.over.is_set():
            async with self.connection("post") as one:
                goes_on = one is not None
                while one is not None and goes_on and not self.over.is_set():
                    goes_on = await self.once(
                        "post", one, head + BODY[:half], BODY[half:], pause_s=0.05, safe=False
                    )
                    await self._pause(random.uniform(0.01, 0.1))

    async def streaming(self) -> None:
        """Answers that take two seconds."""
        while not self.over.is_set():
            async with self.connection("stream") as one:
                if one is not None:
                    await self.once("stream", one, get(b"/stream"))
            await self._pause(0.1)

    async def websocket(self) -> None:
        """An echo every 50 ms, and a new connection when the old one is closed."""
        while not self.over.is_set():
            async with self.connection("websocket") as one:
                if one is not None:
                    await self._echoes(one)

    async def _echoes(self, one: Connection) -> None:
        tally = self.tally
        one.writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        try:
            head = await asyncio.wait_for(one.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
            if b" 101 " not in head:
                tally.bad_websockets["refused"] += 1
                return
            while not self.over.is_set():
                one.writer.write(b"\x81\x84" + bytes(4) + b"ping")
                code = await asyncio.wait_for(_frame(one.reader), PATIENCE_S)
                if code is not None:
                    tally.closed_websockets += 1
                    if code not in (1000, 1001, 1012):
                        tally.bad_websockets[str(code)] += 1
                    return
                await self._pause(0.05)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            tally.bad_websockets[type(error).__name__] += 1

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.over.wait(), seconds)
        except TimeoutError:
            return


async def _frame(reader: asyncio.StreamReader) -> int | None:
    """The code of a close frame; None for any other frame."""
    first, size = await reader.readexactly(2)
    content = await reader.readexactly(size & 0x7F)
    if first & 0x0F == 8:
        return int.from_bytes(content[:2], "big")
    return None


@contextmanager
def clients(
    where: str | tuple[str, int], *, websockets: bool = False, share: float = 1.0
) -> Generator[Tally]:
    """A mixed load on a service while the block runs; complete when it has ended."""
    tally = Tally()
    loads: list[Load] = []
    begun = threading.Event()

    async def run() -> None:
        load = Load(lambda: _connected(where), tally)
        loads.append(load)
        kinds = [load.fresh] * 4 + [load.lazy] * 5 + [load.posting] * 3 + [load.streaming] * 2
        kinds += [lambda: load.reusing("busy", 0.02, 0.04)] * 4
        kinds += [lambda: load.reusing("idle", 0.2, 1.2)] * 8
        chosen = kinds[:: max(1, round(1 / share))]
        chosen += [load.websocket] * 3 if websockets else []
        begun.set()
        await asyncio.gather(*(kind() for kind in chosen))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert begun.wait(10)
        yield tally
    finally:
        loop.call_soon_threadsafe(loads[0].over.set)
        thread.join(30)
        assert not thread.is_alive()
        loop.close()


async def _connected(where: str | tuple[str, int]) -> Connection:
    if isinstance(where, str):
        return Connection(*await asyncio.open_unix_connection(where))
    return Connection(*await asyncio.open_connection(*where))


def answer(where: str | tuple[str, int]) -> str:
    """What a fresh connection is answered: "<generation> <pid>"."""

    async def ask() -> bytes:
        one = await _connected(where)
        try:
            return await asyncio.wait_for(one.ask(get()), PATIENCE_S)
        finally:
            one.close()

    return asyncio.run(ask()).decode().strip()
