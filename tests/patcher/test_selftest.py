from __future__ import annotations

from typing import Protocol

import pytest

import zdpatch.patcher


class RunChild(Protocol):
    """The fixture `run_child`, as far as it is used here."""

    def __call__(self, script: str, *, flags: tuple[str, ...] = ...) -> str: ...


@pytest.mark.parametrize("flags", [(), ("-O",), ("-OO",), ("-X", "dev"), ("-X", "no_debug_ranges")])
def test_every_assumption_holds_here(run_child: RunChild, flags: tuple[str, ...]) -> None:
    """The supported interpreters pass, under every flag that changes how code is made."""
    script = """
        from zdpatch.patcher import selftest
        for _ in range(3):
            assert selftest.run() == [], selftest.run()
    """
    run_child(script, flags=flags)


def test_it_holds_while_monitored_and_leaves_nothing(run_child: RunChild) -> None:
    """A tracer, a profiler and an audit hook do not fail it; no module or class stays behind."""
    script = """
        import gc, sys
        from zdpatch.patcher import selftest
        selftest.run()
        modules = set(sys.modules)
        sys.settrace(lambda *_: None)
        sys.setprofile(lambda *_: None)
        assert selftest.run() == []
        sys.settrace(None)
        sys.setprofile(None)
        sys.addaudithook(lambda *_: None)
        assert selftest.run() == []
        gc.collect()
        assert set(sys.modules) == modules
        assert not [c for c in object.__subclasses__() if c.__module__ == "zdpatch_selftest"]
    """
    run_child(script)


def test_a_python_that_is_not_as_assumed_is_named(run_child: RunChild) -> None:
    """Another version, and a loop that is not C any more, each give a sentence."""
    script = """
        import functools, sys
        from zdpatch.patcher import selftest
        real = sys.version_info
        sys.version_info = (3, 99, 0, "final", 0)
        class Version(tuple):
            major, minor = 3, 99
        sys.version_info = Version((3, 99, 0))
        (said,) = selftest.run()
        assert "3.99" in said, said
        sys.version_info = real
        audit = sys.audit
        sys.audit = lambda *args: None
        (said,) = selftest.run()
        assert "replaced by Python code" in said
        sys.audit = audit
        assert selftest.run() == []
    """
    run_child(script)


def test_children_run_the_tree_under_test(run_child: RunChild) -> None:
    """What a child imports is what these tests import, wherever that lies."""
    found = run_child("import zdpatch.patcher; print(zdpatch.patcher.__file__)")
    assert found.strip() == zdpatch.patcher.__file__
