"""Each run of a Celery task is a scope; a task that is run eagerly is part of its caller's.

Celery tells before it calls a task, and after all that follows from its outcome. Both come in the
same thread or greenlet, whatever pool the worker has.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from zdpatch.agent.keyed import Keyed
from zdpatch.patcher.scopes import enter, leave, name

if TYPE_CHECKING:
    from collections.abc import Callable

    from zdpatch.patcher.scopes import Request

_ENTERED: Final = "_zdpatch_entered"
_UID: Final = "zdpatch"


class CeleryScopes:
    """Of all tasks in this process. `key` gets the task, whose `request` is the one to run."""

    def __init__(self, key: Callable[[Any], object] | None) -> None:
        self._keyed = Keyed(key)

    def connect(self) -> None:
        """Take the place of one that was connected before."""
        signals: Any = importlib.import_module("celery.signals")
        for signal, receiver in (
            (signals.task_prerun, self._before),
            (signals.task_postrun, self._after),
        ):
            signal.disconnect(dispatch_uid=_UID)
            signal.connect(receiver, weak=False, dispatch_uid=_UID)

    def _before(self, *, task: Any, **_: object) -> None:  # noqa: ANN401 - celery.Task
        key = self._keyed.of(task)
        name(key)
        # Celery keeps one `request` for each run of a task, also of one that runs itself
        setattr(task.request, _ENTERED, enter(key))

    def _after(self, *, task: Any, **_: object) -> None:  # noqa: ANN401 - celery.Task
        entered: Request | None = getattr(task.request, _ENTERED, None)
        if entered is not None:
            leave(entered)
