"""A large change comes into a process that answers requests: the time from push to applied, and
what the requests notice.

The service answers HTTP on loopback, a thread a request, and runs a real agent; its load is bounded
(a request each 5 ms). The change is one of 900 functions of 45 modules, or, when two requirements
are given (`jinja2==3.1.3 jinja2==3.1.4`), that of a release, with all its modules imported.
Prints JSON lines; the baseline of the latency is the same load before.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from place import Place
from plan import source

from zdpatch.cli.client import Client

MODULES, FUNCTIONS = 45, 20
ROUNDS = 5
PAUSE_S = 0.005
QUIET_S = 3.0
SERVICE = """
import importlib, pkgutil, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
for found in list(pkgutil.walk_packages(["."])):
    if "test" not in found.name and not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except Exception:
            pass
from zdpatch import agent
agent.start(app="shop")

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"%d" % sum(each * each for each in range(200))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
for line in sys.stdin:
    print(server.server_port, flush=True)
"""


class Load(threading.Thread):
    """Requests, one after the other, with their times in milliseconds."""

    def __init__(self, port: str) -> None:
        super().__init__()
        self.url = f"http://127.0.0.1:{port.strip()}/"
        self.running = True
        self.times: list[float] = []

    def run(self) -> None:
        while self.running:
            begun = time.perf_counter()
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                answer.read()
            self.times.append((time.perf_counter() - begun) * 1000)
            time.sleep(PAUSE_S)

    def taken(self) -> list[float]:
        """What was measured since the last time."""
        found, self.times = self.times, []
        return found


def synthetic() -> tuple[dict[str, str], dict[str, str]]:
    """Both sides of 900 functions."""
    sides = (
        {f"bench_{n}.py": source(FUNCTIONS, version).decode() for n in range(MODULES)}
        for version in (1, 2)
    )
    return next(sides), next(sides)


def release(old: str, new: str, folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Both sides of a release, installed below `folder`."""
    found: list[dict[str, str]] = []
    for requirement in (old, new):
        site = folder / requirement
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", str(site), requirement]
        subprocess.run(install, check=True)
        name = requirement.partition("==")[0].replace("-", "_").lower()
        files = (path for path in site.rglob("*.py") if path.relative_to(site).parts[0] == name)
        found.append({path.relative_to(site).as_posix(): path.read_text() for path in files})
        others = (path for path in site.iterdir() if path.suffix != ".dist-info")
        sys.path += [str(site)] if any(path.name != name for path in others) else []
    return found[0], found[1]


def p99(times: list[float]) -> float:
    """The 99th percentile."""
    return statistics.quantiles(times, n=100)[98] if len(times) > 1 else max(times)


def show(what: str, value: float, baseline: float, of: str, reach: float, **also: object) -> None:
    """Print one figure."""
    row = {"figure": what, "unit": "ms", "value": round(value, 1), "baseline": round(baseline, 1)}
    row |= {"baseline is": of, "reach": round(reach, 1), "met": value <= reach, "also": also}
    print(json.dumps(row))


def main() -> None:
    """Push, roll back, and print."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        named = sys.argv[1:3]
        what = " to ".join(named) or f"{MODULES * FUNCTIONS} functions of {MODULES} modules"
        sites = Path(folder) / "sites"
        old, new = release(named[0], named[1], sites) if named else synthetic()
        place = Place(Path(folder), old, new, SERVICE)
        load = Load(place.ask("port"))
        load.start()
        pushes, quiet, busy, longest = list[float](), list[float](), list[float](), list[float]()
        try:
            with Client() as client:
                for _ in range(ROUNDS):
                    load.taken()
                    time.sleep(QUIET_S)
                    quiet.append(p99(load.taken()))
                    begun = time.perf_counter()
                    place.push(client)
                    pushes.append((time.perf_counter() - begun) * 1000)
                    during = load.taken()
                    busy.append(p99(during))
                    longest.append(max(during))
                    place.revert(client)
        finally:
            load.running = False
            load.join()
            place.end()
    value, base = min(pushes), min(quiet)
    pushed = [round(each) for each in pushes]
    show(f"push to applied: {what}", value, 0, "none", 1000, each=pushed)
    # The round that the rest of the machine disturbed least.
    p = min(busy)
    also = {"longest request": round(min(longest), 1), "ratio": round(p / base, 2)}
    show("p99 of requests during it", p, base, "the same requests before", 1.05 * base, **also)


main()
