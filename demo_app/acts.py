"""Each act shows one promise and checks it against what the customers see from outside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from demo_app.checks import check, wait_until
from demo_app.load import RIGHT_OFFER, WRONG_OFFER, right_total, wrong_total
from demo_app.successors import SLOTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo_app.command import Zdpatch
    from demo_app.live import Shop
    from demo_app.load import Load
    from demo_app.screen import Screen

SEEN_S: Final = 10.0  # within which every customer has looked again
AGENTS_S: Final = 20.0  # within which the agents are there
FIX: Final = "VOUCHER-ONCE"
CVE: Final = "CVE-2025-27516"
RELEASE: Final = "JINJA2-316"


@dataclass(frozen=True)
class Tour:
    """What the acts work with."""

    screen: Screen
    zdpatch: Zdpatch
    shop: Shop
    load: Load
    work: Path

    def check_load(self) -> None:
        """No customer has had anything to complain about."""
        check(not self.load.failures, "no request fails", "\n".join(self.load.failures))

    def count(self) -> None:
        """Say how many answers there were up to now, all of them right."""
        self.check_load()
        self.screen.fact("so far", f"{self.load.served} requests served, 0 failed")

    def wait(self, seen: Callable[[], bool], claim: str) -> None:
        """Wait until the customers, who look again and again, have seen it; then say so."""
        wait_until(lambda: bool(self.load.failures) or seen(), claim, within_s=SEEN_S)
        self.check_load()
        self.screen.fact("seen", claim)

    def prices_are(self, total: Callable[[int], int], offer: int, how: str) -> None:
        """Wait until the carts and the background thread's offers are priced like this."""
        first = self.load.customers[0]
        cost = f"{total(first.lamps) / 100:.2f}"
        self.wait(lambda: self.load.all_pay(total), f"a lamp with a 10 % voucher: {cost}, {how}")
        self.wait(lambda: self.load.all_see_offer(offer), f"offer: {offer / 100:.2f}, {how}")

    def status(self) -> list[dict[str, Any]]:
        """Each agent with its patches, as `zdpatch status --json` says."""
        return list(json.loads(self.zdpatch.read("status", "--json"))["agents"])


def make_keys(screen: Screen, zdpatch: Zdpatch) -> None:
    """The operator makes a key and says that its signatures count here."""
    screen.act("A key, and who is trusted")
    zdpatch("keygen", "ci.key", "--no-passphrase")
    zdpatch("trust", "init", "--key", "ci.pub")


def open_shop(tour: Tour) -> None:
    """The shop is open, and nothing in it knows about patches but one line."""
    tour.screen.act("A shop with two workers, and customers who never stop asking")
    pids = sorted(tour.shop.pids)
    wait_until(
        lambda: sorted(one["pid"] for one in tour.status()) == pids,
        "both workers have an agent",
        within_s=AGENTS_S,
    )
    tour.zdpatch("status")


def show_bug(tour: Tour) -> None:
    """The voucher is taken off twice, and offers are a cent less than the till takes."""
    tour.screen.act("Two bugs: the voucher counts twice, and offers cut off the last cent")
    tour.prices_are(wrong_total, WRONG_OFFER, "wrong")


def fix_own_code(tour: Tour) -> None:
    """The own fix goes into both workers; carts that were filled before are priced right."""
    tour.screen.act("The shop's own fix goes in")
    build = ["build", "--app", "shop", "--id", FIX, "-o", "fix.zdp", "--sign", "ci.key"]
    tour.zdpatch(*build, "--from", "v1", "--to", "v2")
    tour.zdpatch("push", "fix.zdp", "--yes")
    tour.prices_are(right_total, RIGHT_OFFER, "right, in carts filled before the fix")
    tour.zdpatch("confirm", FIX)


def fix_jinja(tour: Tour) -> None:
    """A real security release of a library goes into the same processes."""
    tour.screen.act(f"A security release of a library goes in: {CVE}")
    tour.wait(lambda: tour.load.all_get_secret(True), "a customer's template reads a secret")
    tour.zdpatch("status", "--require", CVE, code=9)
    build = ["build", "--app", "shop", "--id", RELEASE, "--fixes", CVE, "--sign", "ci.key"]
    tour.zdpatch(*build, "--from", "jinja2==3.1.5", "--to", "jinja2==3.1.6", "-o", "jinja2.zdp")
    tour.zdpatch("push", "jinja2.zdp", "--yes")
    tour.wait(lambda: tour.load.all_get_secret(False), "the same template gets nothing")
    tour.zdpatch("confirm", RELEASE)
    tour.zdpatch("status", "--require", CVE)


def refuse_unsafe(tour: Tour) -> None:
    """An edit that would break carts which exist is refused, with the reason."""
    tour.screen.act("Refused: a patch that live objects cannot follow")
    build = ["build", "--app", "shop", "--sign", "ci.key", "-o", "slots.zdp", "--id", SLOTS]
    build += ["--from", "v2", "--to", "unsafe"]
    tour.zdpatch(*build, code=4)
    tour.screen.fact("next", "its author insists; the processes decide for themselves")
    tour.zdpatch.read(*build, "--allow-unsafe")
    told = tour.zdpatch("push", "slots.zdp", "--yes", code=4)
    check("shop.cart:Cart" in told, "the refusal names the class", told)


def refuse_forged(tour: Tour) -> None:
    """A bundle that was changed, or signed by somebody else, gets nowhere."""
    tour.screen.act("Refused: a changed bundle, and one that a stranger signed")
    raw = (tour.work / "fix.zdp").read_bytes()
    (tour.work / "changed.zdp").write_bytes(raw.replace(b"with_vat(cents", b"with_vat(00000"))
    tour.zdpatch("push", "changed.zdp", "--yes", code=3)
    tour.zdpatch.read("keygen", "stranger.key", "--no-passphrase")
    build = ["build", "--app", "shop", "-o", "stranger.zdp", "--sign", "stranger.key"]
    tour.zdpatch.read(*build, "--from", "v1", "--to", "v2")
    tour.zdpatch("push", "stranger.zdp", "--yes", code=3)


def roll_back(tour: Tour) -> None:
    """The own fix comes out again as exactly as it went in; the release stays."""
    tour.screen.act("Rolled back")
    tour.prices_are(right_total, RIGHT_OFFER, "right: the refused ones changed nothing")
    tour.zdpatch("rollback", FIX)
    tour.prices_are(wrong_total, WRONG_OFFER, "as before the fix")
    tour.wait(lambda: tour.load.all_get_secret(False), "the library's fix is still there")
    tour.zdpatch("audit", "--limit", "8")


ACTS: Final = (
    open_shop,
    show_bug,
    fix_own_code,
    fix_jinja,
    refuse_unsafe,
    refuse_forged,
    roll_back,
)


def finish(tour: Tour) -> None:
    """The counts, after the last customer has left."""
    load, screen = tour.load, tour.screen
    tour.check_load()
    health = tour.shop.worker_pids()
    check(health == tour.shop.pids, "the same processes still serve", health)
    for customer in load.customers:
        lamps = customer.lamps
        flips = [(wrong_total(lamps), right_total(lamps)), (right_total(lamps), wrong_total(lamps))]
        check(customer.flips == flips, "each cart changed its price twice", customer.flips)
    tour.screen.act("What the customers say")
    screen.figure("requests served", load.served)
    screen.figure("requests failed", len(load.failures))
    screen.figure("slowest answer", f"{load.slowest_ms:.0f} ms")
    screen.figure("carts kept", f"{len(load.customers)} of {len(load.customers)}")
    screen.figure("same processes", " ".join(map(str, tour.shop.pids)))
