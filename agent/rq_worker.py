"""Each job of an RQ worker is a scope: `rq worker --worker-class zdpatch.agent.rq_worker.Worker`.

A worker class of one's own takes `Scoped` before RQ's: `class Mine(Scoped, rq.SimpleWorker)`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zdpatch.agent import carry
from zdpatch.agent.keyed import Keyed
from zdpatch.patcher.scopes import Request, name

if TYPE_CHECKING:
    from collections.abc import Callable


class Scoped:
    """Before a worker class of RQ's. Its `scope_key` may be a function that gets the job."""

    scope_key: Callable[[Any], object] | None = None

    def perform_job(self, job: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - RQ's own
        """Perform it, and tell Redis of it, in one scope."""
        carry.install()
        # through the class: what the instance gives would be bound to it
        key = Keyed(type(self).scope_key).of(job)
        name(key)
        performer: Any = super()
        with Request(key):
            return performer.perform_job(job, *args, **kwargs)


if TYPE_CHECKING:

    class Worker(Scoped):
        """RQ's `Worker`, which forks for each job."""

    class SimpleWorker(Scoped):
        """RQ's `SimpleWorker`, which does not."""

else:
    _rq = importlib.import_module("rq")
    Worker = type("Worker", (Scoped, _rq.Worker), {"__module__": __name__})
    SimpleWorker = type("SimpleWorker", (Scoped, _rq.SimpleWorker), {"__module__": __name__})
