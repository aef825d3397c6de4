"""What runs in and around the patched process; importing it loads next to nothing.

from zdpatch import agent

agent.start(app="shop", labels={"zone": "a"})
agent.active()  # ("FIX-1",)
app = agent.asgi(app)  # or wsgi, flask, celery; `with agent.request(key):` anywhere
"""

# ruff: noqa: PLC0415 - imports inside functions are what keeps this page cheap

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar

# here, since a child forked during an import waits for ever when it imports the same
from zdpatch.agent.handle import Handle
from zdpatch.agent.patience import Again, is_shortage
from zdpatch.agent.seat import SEAT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zdpatch.agent.logfilter import PatchFilter as PatchFilter
    from zdpatch.patcher.scopes import Request as request  # noqa: N813 - as it reads in a program

__all__ = ["PatchFilter", "active", "asgi", "celery", "flask", "request", "start", "wsgi"]

App = TypeVar("App")


def start(
    app: str,
    labels: Mapping[str, str] | None = None,
    release: str | None = None,
    home: str | os.PathLike[str] | None = None,
    *,
    now: bool = False,
) -> Handle:
    """Start this process's agent, after bringing up the patches it had. Never raises.

    `release` defaults to ZDPATCH_RELEASE, then to the version of the distribution called `app`,
    then to a digest of the program's entry file; `home` to ZDPATCH_HOME, then to the XDG state
    directory. The socket opens a second later, or at once with `now`. With `ZDPATCH=off` nothing
    happens at all. Threads that call it at once get the same agent, when it is there.
    """
    if _is_off():
        return Handle(None, "ZDPATCH=off")
    try:
        return _begin(app, labels, release, home, now=now)
    except Exception as error:  # noqa: BLE001 - an application never fails for its agent
        reason = f"{type(error).__name__}: {error}"
        handle = Handle(None, reason)
        if is_shortage(error):
            with contextlib.suppress(Exception):  # no thread for it either
                handle.again = Again(handle, lambda: _begin(app, labels, release, home, now=now))
                handle.again.launch()
        with contextlib.suppress(Exception):  # during a shortage it may not be there
            import logging

            word = "off" if handle.again is None else "not yet"
            logging.getLogger("zdpatch").error("zdpatch is %s in this process: %s", word, reason)
        return handle


def _begin(
    app: str,
    labels: Mapping[str, str] | None,
    release: str | None,
    home: str | os.PathLike[str] | None,
    *,
    now: bool,
) -> Handle:
    with SEAT.taken():  # others wait for these imports too
        # what only a patch needs is kept now and loaded later: see agent/later.py
        from zdpatch.agent.config import configure
        from zdpatch.agent.launch import launch

        return launch(configure(app, labels, release, home, now=now, environ=os.environ))


def active() -> tuple[str, ...]:
    """Ids of the patches that run in this process, in the order they came; () without an agent."""
    launch = sys.modules.get("zdpatch.agent.launch")
    return () if launch is None else tuple(launch.active())


def asgi(app: App, key: Callable[[Any], object] | None = None, *, websockets: bool = True) -> App:
    """`app`, each of whose requests is a scope; `key` gets the ASGI scope and says for whom.

    A WebSocket connection is one scope as long as it lasts. Where connections last for hours, say
    `websockets=False` and put `with agent.request(...)` around what belongs together. Like all
    of these it never raises: requests are no scopes when it cannot be had, and the log says so.
    """
    return _scoped("asgi_app", lambda part: part.ScopedAsgi(app, key, websockets=websockets), app)


def wsgi(app: App, key: Callable[[dict[str, Any]], object] | None = None) -> App:
    """`app`, each of whose requests is a scope until its response is closed."""
    return _scoped("wsgi_app", lambda part: part.ScopedWsgi(app, key), app)


def flask(app: App, key: Callable[[Any], object] | None = None) -> App:
    """A Flask application, each of whose requests is a scope; `key` gets `flask.request`."""
    return _scoped("flask_app", lambda part: part.flask_scopes(app, key), app)


def celery(key: Callable[[Any], object] | None = None) -> None:
    """Make each Celery task that runs in this process a scope; `key` gets the task."""
    _scoped("celery_tasks", lambda part: part.CeleryScopes(key).connect(), None)


def _is_off() -> bool:
    return os.environ.get("ZDPATCH", "").strip().lower() in ("off", "0", "false", "no")


def _scoped(part: str, make: Callable[[Any], App], otherwise: App) -> App:
    """What `make` makes of a module; where an agent was started, one that was kept then."""
    if _is_off():
        return otherwise
    try:
        later = sys.modules.get("zdpatch.agent.later")
        load = importlib.import_module if later is None else later.need
        load("zdpatch.agent.carry").install()
        return make(load(f"zdpatch.agent.{part}"))
    except Exception as error:  # noqa: BLE001 - an application never fails for its agent
        import logging

        reason = f"{type(error).__name__}: {error}"
        logging.getLogger("zdpatch").error("requests are no scopes in this process: %s", reason)
        return otherwise


def _no_request(key: str | None = None) -> contextlib.nullcontext[None]:
    del key
    return contextlib.nullcontext()


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the module's own attributes
    if name == "PatchFilter":
        from zdpatch.agent.logfilter import PatchFilter

        return PatchFilter
    if name == "request":
        found: Any = _scoped("carry", lambda part: part.Request, _no_request)
        globals()["request"] = found  # without this function from now on
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
