"""Around a WSGI application a request is a scope until its response is closed.

The body of a response may be made while the server asks for it, in another thread even: each piece
is made inside the scope, and between the pieces the server's thread is in none. What is made
already (a list), and a file that the server sends by itself, goes out as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zdpatch.agent.keyed import Keyed
from zdpatch.patcher.scopes import PIN, begin, end, name, put_back

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zdpatch.patcher.scopes import Scope

    Environ = dict[str, Any]
    Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class ScopedWsgi:
    """A WSGI application; what else it has is reached as before."""

    def __init__(self, app: Application, key: Callable[[Environ], object] | None) -> None:
        self._app = app
        self._keyed = Keyed(key)

    def __call__(self, environ: Environ, start_response: Callable[..., Any], /) -> Iterable[bytes]:
        """Serve one request."""
        key = self._keyed.of(environ)
        name(key)
        scope = begin(key)
        if scope is None:
            return self._app(environ, start_response)
        token = PIN.set(scope)
        try:
            body = self._app(environ, start_response)
        except BaseException:
            end(scope)
            raise
        finally:
            put_back(token, scope)
        if _is_made(body, environ):
            end(scope)
            return body
        return (_Sized if hasattr(body, "__len__") else _Body)(body, scope)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the application's own attributes
        return getattr(self._app, name)


class _Body:
    """A response whose pieces are made inside its scope; closing it, or losing it, ends that."""

    __slots__ = ("_body", "_pieces", "_scope")

    def __init__(self, body: Iterable[bytes], scope: Scope) -> None:
        self._body = body
        self._scope = scope
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = PIN.set(self._scope)
        try:
            if self._pieces is None:
                self._pieces = iter(self._body)
            return next(self._pieces)
        finally:
            put_back(token, self._scope)

    def close(self) -> None:
        """As the server must."""
        token = PIN.set(self._scope)
        try:
            close: Callable[[], None] | None = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            put_back(token, self._scope)
            end(self._scope)

    def __del__(self) -> None:
        if not self._scope.left:
            end(self._scope)


class _Sized(_Body):
    """One of a known number of pieces: a server makes the length of a single one known."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def _is_made(body: object, environ: Environ) -> bool:
    """Whether nothing of the application runs any more, or the server must see the very object."""
    if type(body) in (list, tuple):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # a function makes what the server recognises by identity: the file itself, perhaps
    return wrapper is not None and hasattr(body, "read")
