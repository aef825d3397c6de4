"""Which adapter meets which module of which server; each is one small module here."""

from __future__ import annotations

from typing import Final

ADAPTERS: Final = {
    "socketserver": "threads",
    "http.server": "threads_http",
    "uvicorn.server": "uvicorn",
    "uvicorn.config": "uvicorn_config",
    "aiohttp.web_protocol": "aiohttp_http",
    "aiohttp.web_ws": "aiohttp_http",
    "aiohttp.web_runner": "aiohttp",
    "gunicorn.app.base": "gunicorn_app",
    "gunicorn.arbiter": "gunicorn",
    "gunicorn.workers.sync": "gunicorn_sync",
    "gunicorn.workers.gthread": "gunicorn_gthread",
    "hypercorn.config": "hypercorn_config",
    "hypercorn.run": "hypercorn_run",
    "hypercorn.asyncio.tcp_server": "hypercorn_tcp",
    "hypercorn.asyncio.run": "hypercorn",
    "waitress.server": "waitress",
}
"""Module of a server -> module of `zdpatch.agent.adapters`, which has `install(module)`."""
