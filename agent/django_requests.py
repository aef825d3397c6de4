"""A Django middleware makes each request a scope, and a streamed response a part of it.

`"zdpatch.agent.django_requests.middleware"` belongs first into `MIDDLEWARE`. The setting
`ZDPATCH_REQUEST_KEY`, a function or the dotted name of one, gets the request and gives its key.
What an application makes of Django stands around a response until it is closed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zdpatch.agent import carry
from zdpatch.agent.keyed import Keyed
from zdpatch.patcher.scopes import Inside, begin, end, name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from zdpatch.patcher.scopes import Scope


def middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """As Django wants it: of the same kind as what it stands around."""
    carry.install()
    keyed = Keyed(_key())

    def scoped(request: Any) -> Any:  # noqa: ANN401 - an HttpRequest and an HttpResponse
        scope = _begin(keyed.of(request))
        if scope is None:
            return get_response(request)
        try:
            with Inside(scope):
                response = get_response(request)
        except BaseException:
            end(scope)
            raise
        return _answered(response, scope)

    async def scoped_async(request: Any) -> Any:  # noqa: ANN401 - as above
        scope = _begin(keyed.of(request))
        if scope is None:
            return await get_response(request)
        try:
            with Inside(scope):
                response = await get_response(request)
        except BaseException:
            end(scope)
            raise
        return _answered(response, scope)

    sync: Any = importlib.import_module("asgiref.sync")
    return scoped_async if sync.iscoroutinefunction(get_response) else scoped


middleware.sync_capable = True  # type: ignore[attr-defined]
middleware.async_capable = True  # type: ignore[attr-defined]


def _key() -> Callable[[Any], object] | None:
    settings: Any = importlib.import_module("django.conf").settings
    key = getattr(settings, "ZDPATCH_REQUEST_KEY", None)
    if isinstance(key, str):
        loading: Any = importlib.import_module("django.utils.module_loading")
        key = loading.import_string(key)
    return key


def _begin(key: str | None) -> Scope | None:
    name(key)
    return begin(key)


def _answered(response: Any, scope: Scope) -> Any:  # noqa: ANN401 - an HttpResponse
    """The response is made, unless it is streamed; a file the server may send by itself."""
    streams = getattr(response, "streaming", False)
    if not streams or getattr(response, "file_to_stream", None) is not None:
        end(scope)
        return response
    pieces = _AsyncPieces if response.is_async else _Pieces
    response.streaming_content = pieces(response.streaming_content, scope)
    response.close = _Close(response.close, scope)
    return response


class _Streamed:
    """A body whose pieces are made inside its scope; losing it ends that too."""

    def __init__(self, pieces: Any, scope: Scope) -> None:  # noqa: ANN401 - iterable one way
        self._pieces = pieces
        self._scope = scope

    def __del__(self) -> None:
        end(self._scope)


class _Pieces(_Streamed):
    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with Inside(self._scope):
            return next(self._pieces)  # type: ignore[no-any-return]


class _AsyncPieces(_Streamed):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with Inside(self._scope):
            return await anext(self._pieces)


class _Close:
    """Closes a response, and its scope with it."""

    def __init__(self, close: Callable[[], None], scope: Scope) -> None:
        self._close = close
        self._scope = scope

    def __call__(self) -> None:
        try:
            with Inside(self._scope):
                self._close()
        finally:
            end(self._scope)
