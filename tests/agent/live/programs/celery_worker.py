"""Celery with the broker in memory: a task sees its own scope, an eager one the caller's."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import celery
from celery.contrib.testing.worker import start_worker

from zdpatch import agent
from zdpatch.patcher.scopes import PIN, older

TASKS = 30
pool = ThreadPoolExecutor(2)
app: Any = celery.Celery("shop", broker="memory://", backend="cache+memory://")
app.conf.update(task_always_eager=False, broker_connection_retry_on_startup=True)


def key() -> str | None:
    """Of the scope this runs in."""
    scope = PIN.get(None)
    return "outside" if scope is None else scope.key


@app.task(name="see")
def see(user: str) -> list[str | None]:
    """In the task, and in an executor."""
    del user
    return [key(), pool.submit(key).result()]


@app.task(name="fail", bind=True, max_retries=1)
def fail(self: Any, user: str) -> str | None:  # noqa: ANN401 - celery.Task
    """Once; then it sees its key."""
    del user
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return key()


@app.task(name="inner")
def inner() -> str | None:
    """Called by another."""
    return key()


@app.task(name="outer")
def outer(user: str) -> list[str | None]:
    """Runs another at once: that one is part of it."""
    del user
    return [key(), inner.apply().get(disable_sync_subtasks=False), key()]


def main(kind: str) -> None:
    """Run them in a worker of the kind that is asked for."""
    agent.celery(key=lambda task: (task.request.args or [None])[0])
    agent.celery(key=lambda task: (task.request.args or [None])[0])  # twice is once
    with start_worker(app, pool=kind, perform_ping_check=False, shutdown_timeout=30):
        many = [see.delay(f"user-{n}") for n in range(TASKS)]
        failed = fail.delay("eva")
        nested = outer.delay("ann")
        for number, result in enumerate(many):
            assert result.get(timeout=30) == [f"user-{number}"] * 2
        assert failed.get(timeout=30) == "eva"
        assert nested.get(timeout=30) == ["ann"] * 3
    with agent.request("web"):
        assert inner.apply().get() == "web"
        assert see.apply(["bob"]).get() == ["bob", "bob"]
    assert key() == "outside"
    pool.shutdown()
    gc.collect()
    assert older(sys.maxsize) == [], older(sys.maxsize)
    print("ok")


main(sys.argv[1])
