"""The shop as an ASGI application. Everything a request changes is in this worker's memory."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from zdpatch import agent

from . import pages
from .cart import Sessions
from .catalogue import STOCK
from .offers import Offers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

sessions = Sessions()
offers = Offers()


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
    """Bring back the fixes this application had, then start to serve."""
    agent.start(app="shop")
    offers.start()
    yield
    offers.stop()


def _session(request: Request) -> str:
    return request.headers.get("x-session", "anonymous")


async def front(request: Request) -> Response:
    """The front page."""
    return HTMLResponse(pages.front(sessions.cart(_session(request)), offers.table))


async def cart(request: Request) -> Response:
    """This session's cart: show it (GET), or change it (POST with add, pieces and voucher)."""
    mine = sessions.cart(_session(request))
    if request.method == "POST":
        form = await request.form()
        code = str(form.get("add", ""))
        if code:
            if code not in STOCK:
                return PlainTextResponse(f"no {code} here", status_code=404)
            mine.add(code, int(str(form.get("pieces", "1"))))
        mine.voucher = int(str(form.get("voucher", mine.voucher)))
    return JSONResponse({"pieces": mine.pieces, "voucher": mine.voucher, "total": mine.total()})


async def offer_table(_request: Request) -> Response:
    """The table of offers, as the background thread made it last."""
    return JSONResponse({"offers": offers.table, "rounds": offers.rounds})


async def card(request: Request) -> Response:
    """A greeting card, from a template that the customer sends."""
    text = (await request.body()).decode()
    return HTMLResponse(pages.card(text, name=_session(request)))


async def health(_request: Request) -> Response:
    """Who answers, and with which fixes."""
    return JSONResponse(
        {"pid": os.getpid(), "carts": len(sessions), "patches": list(agent.active())}
    )


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", front),
        Route("/cart", cart, methods=["GET", "POST"]),
        Route("/offers", offer_table),
        Route("/card", card, methods=["POST"]),
        Route("/health", health),
    ],
)
