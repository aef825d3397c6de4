"""An RQ worker on a Redis in memory: each job sees its own scope."""

from __future__ import annotations

import gc
import sys
from typing import Any

import fakeredis
import rq
from rq.timeouts import TimerDeathPenalty

from zdpatch.agent import rq_worker
from zdpatch.patcher.scopes import PIN, older

JOBS = 5


def key() -> str | None:
    """Of the scope this runs in."""
    return PIN.get().key


def fail() -> None:
    """So that the worker tells of a failure."""
    raise ValueError(key())


class Mine(rq_worker.Scoped, rq.SimpleWorker):  # type: ignore[misc, unused-ignore]
    """With the job's own number as key."""

    death_penalty_class = TimerDeathPenalty

    @staticmethod
    def scope_key(job: Any) -> str:  # type: ignore[override]  # noqa: ANN401 - rq.job.Job
        """Whose job it is."""
        return f"job {job.meta['user']}"


def main() -> None:
    """Run them, in a class of one's own and in ours."""
    redis = fakeredis.FakeStrictRedis()
    queue = rq.Queue(connection=redis)
    jobs = [queue.enqueue("__main__.key", meta={"user": n}) for n in range(JOBS)]
    bad = queue.enqueue("__main__.fail", meta={"user": "bad"})
    Mine([queue], connection=redis).work(burst=True, logging_level="CRITICAL")
    assert [job.return_value() for job in jobs] == [f"job {n}" for n in range(JOBS)]
    assert "job bad" in str(bad.latest_result().exc_string)
    plain = queue.enqueue("__main__.key")
    simple: Any = rq_worker.SimpleWorker
    simple([queue], connection=redis).work(burst=True, logging_level="CRITICAL")
    assert plain.get_status() == "finished"
    assert plain.return_value() is None
    assert issubclass(rq_worker.Worker, rq.Worker)
    assert PIN.get(None) is None
    gc.collect()
    assert older(sys.maxsize) == [], older(sys.maxsize)
    print("ok")


main()
