"""A Flask application's requests are scopes, closed with their responses.

The key is asked when Flask has made its own request, before any of the application's functions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar

from zdpatch.agent.keyed import Keyed
from zdpatch.agent.wsgi_app import ScopedWsgi
from zdpatch.patcher.scopes import name

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F")


def flask_scopes(app: F, key: Callable[[Any], object] | None) -> F:
    """`app`, with its `wsgi_app` in a scope. `key` gets `flask.request`."""
    flask: Any = app
    flask.wsgi_app = ScopedWsgi(flask.wsgi_app, None)
    if key is not None:
        keyed = Keyed(key)
        request = importlib.import_module("flask").request

        def name_scope() -> None:
            name(keyed.of(request))

        flask.before_request_funcs.setdefault(None, []).insert(0, name_scope)
    return app
