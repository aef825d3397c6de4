"""The service on aiohttp."""

from __future__ import annotations

import asyncio
import sys

import service  # type: ignore[import-not-found] # it lies beside this one when both run
from aiohttp import web


async def plain(request: web.Request) -> web.Response:
    """/."""
    del request
    return web.Response(body=service.name())


async def post(request: web.Request) -> web.Response:
    """/post."""
    await request.read()
    await asyncio.sleep(0.3)
    return web.Response(body=service.name())


async def stream(request: web.Request) -> web.StreamResponse:
    """/stream."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(service.CHUNKS):
        await response.write(service.name())
        await asyncio.sleep(service.STREAM_S / service.CHUNKS)
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    """/ws."""
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(message.data)
    return websocket


if __name__ == "__main__":
    app = web.Application()
    app.add_routes(
        [
            web.get("/", plain),
            web.post("/post", post),
            web.get("/stream", stream),
            web.get("/ws", echo),
        ]
    )
    web.run_app(app, port=int(sys.argv[1]), access_log=None)
