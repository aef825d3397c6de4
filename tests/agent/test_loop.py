"""What one loop waits for: signals, and children that nobody else reaps."""

from __future__ import annotations

import subprocess
import sys

_REAPS = """
import os, signal
from zdpatch.agent.loop import Loop, reap_strangers

def child(code):
    pid = os.fork()
    if not pid:
        os._exit(code)
    return pid

loop, heard = Loop(), set()
with loop.signals(heard.update):
    strangers = [child(1), child(2)]
    while signal.SIGCHLD not in heard:
        loop.turn(10)
    for pid in strangers:  # both have ended, and neither is reaped
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    reap_strangers(set())
    own = child(3)
    os.waitid(os.P_PID, own, os.WEXITED | os.WNOWAIT)
    reap_strangers({own})
    print(os.waitpid(own, 0)[1] >> 8)
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("nobody is left")
    os.kill(os.getpid(), signal.SIGTERM)
    while signal.SIGTERM not in heard:
        loop.turn(10)
loop.close()
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""


def test_signals_and_strangers() -> None:
    """Its own child is left to whoever waits for it."""
    done = subprocess.run(
        [sys.executable, "-c", _REAPS], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout.split("\n") == ["3", "nobody is left", "True", ""], done.stderr
