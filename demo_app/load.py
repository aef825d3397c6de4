"""Customers: each has one connection to one worker, one cart there, and checks every answer."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from http.client import HTTPException
from typing import TYPE_CHECKING, Final, Self

from demo_app.checks import Failed, check
from demo_app.live import request

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPConnection

    from demo_app.live import Shop

PER_WORKER = 3
PAUSE_S = 0.004
GREETING: Final = "Dear {{ name }}, enjoy your {{ 'lamp'|upper }}!"
# What the supplier is paid is none of a customer's business, and the sandbox keeps names with an
# underscore away from templates. Jinja2 3.1.5 can be tricked into handing out the real str.format.
ATTACK: Final = """{{ ("{0._cost}"|attr("format"))(supplier) }}"""
ANSWER: Final = "1870"
LAMP, VAT, VOUCHER, OFFER = 3999, 19, 10, 10


def _half_up(amount: int, divisor: int) -> int:
    return (2 * amount + divisor) // (2 * divisor)


def right_total(lamps: int) -> int:
    """What that many lamps cost with VAT, the voucher taken off once."""
    return _half_up(_half_up(LAMP * lamps * (100 - VOUCHER), 100) * (100 + VAT), 100)


def wrong_total(lamps: int) -> int:
    """The same with the bug: the voucher is taken off twice."""
    return _half_up(right_total(lamps) * (100 - VOUCHER), 100)


# The offer for a lamp: the buggy shop cuts off the fraction of a cent, the till rounds it.
RIGHT_OFFER = _half_up(_half_up(LAMP * (100 - OFFER), 100) * (100 + VAT), 100)
WRONG_OFFER = _half_up(LAMP * (100 - OFFER), 100) * (100 + VAT) // 100


class Customer:
    """One visitor, with the last answers: `total`, `offer` and its `rounds`, `secret` told or not.

    A `failure` is what was wrong with an answer; it ends the visit.
    """

    def __init__(self, number: int, pid: int, connection: HTTPConnection) -> None:
        self.pid = pid
        self.lamps = number + 1
        self.total = 0
        self.offer = 0
        self.rounds = 0
        self.secret: bool | None = None
        self.served: Counter[str] = Counter()
        self.flips: list[tuple[int, int]] = []
        self.slowest_s = 0.0
        self.failure = ""
        self._name = f"customer-{number}"
        self._connection = connection
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._visit, name=self._name, daemon=True)

    def begin(self) -> None:
        """Fill the cart, then stay."""
        self._ask("POST", "/cart", f"add=lamp&pieces={self.lamps}&voucher={VOUCHER}")
        self._thread.start()

    def end(self) -> None:
        """Finish the request that is going on, and leave."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=20)
        self._connection.close()

    def _visit(self) -> None:
        looks: list[Callable[[], None]] = [
            self._cart,
            self._front,
            self._offers,
            self._card,
            self._attack,
        ]
        try:
            while not self._stop.wait(PAUSE_S):
                looks[self.served.total() % len(looks)]()
        except (OSError, HTTPException, Failed) as error:
            self.failure = f"{self._name} (pid {self.pid}): {type(error).__name__} {error}"

    def _ask(self, method: str, path: str, body: str = "") -> str:
        begun = time.perf_counter()
        answer = request(self._connection, method, path, body, session=self._name)
        self.slowest_s = max(self.slowest_s, time.perf_counter() - begun)
        self.served[path] += 1
        return answer

    def _cart(self) -> None:
        cart = json.loads(self._ask("GET", "/cart"))
        check(cart["pieces"] == {"lamp": self.lamps}, "the cart is kept", cart)
        prices = (right_total(self.lamps), wrong_total(self.lamps))
        check(cart["total"] in prices, f"the cart costs one of {prices}", cart)
        if self.total not in (0, cart["total"]):
            self.flips.append((self.total, cart["total"]))
        self.total = cart["total"]

    def _front(self) -> None:
        page = self._ask("GET", "/")
        check(f"<p>{self.lamps} pieces" in page, "the front page shows the cart", page)

    def _offers(self) -> None:
        table = json.loads(self._ask("GET", "/offers"))
        check(table["rounds"] >= self.rounds, "the background thread goes on", table)
        self.rounds = table["rounds"]
        offer = table["offers"]["lamp"]
        check(offer in (RIGHT_OFFER, WRONG_OFFER), "the offer is right or as before", offer)
        self.offer = offer

    def _card(self) -> None:
        card = self._ask("POST", "/card", GREETING)
        check(card == f"Dear {self._name}, enjoy your LAMP!", "the card is as written", card)

    def _attack(self) -> None:
        card = self._ask("POST", "/card", ATTACK)
        check(card in (ANSWER, ""), "the attack gets the secret, or nothing", card)
        self.secret = card == ANSWER


class Load:
    """All customers, the same number on each worker. Counts go on until it ends."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.customers: list[Customer] = []

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def _begin(self) -> None:
        """Open connections until each worker has its share; which worker accepts is chance."""
        wanted = Counter(dict.fromkeys(self._shop.pids, PER_WORKER))
        for _ in range(5000):
            if not +wanted:
                return
            connection = self._shop.connect()
            pid = json.loads(request(connection, "GET", "/health", session="door"))["pid"]
            if wanted[pid] <= 0:
                connection.close()
                continue
            wanted[pid] -= 1
            self.customers.append(Customer(len(self.customers), pid, connection))
            self.customers[-1].begin()
        raise Failed(f"a worker never answered: {dict(wanted)}")

    def end(self) -> None:
        """Every customer leaves."""
        for customer in self.customers:
            with contextlib.suppress(OSError):
                customer.end()

    @property
    def served(self) -> int:
        """Requests answered rightly so far."""
        return sum(customer.served.total() for customer in self.customers)

    @property
    def failures(self) -> list[str]:
        """What went wrong so far, one line each."""
        return [customer.failure for customer in self.customers if customer.failure]

    @property
    def slowest_ms(self) -> float:
        """The slowest answer so far, in milliseconds."""
        return max(customer.slowest_s for customer in self.customers) * 1000

    def all_pay(self, total: Callable[[int], int]) -> bool:
        """Whether every cart now costs what `total` says for its number of lamps."""
        return all(one.total == total(one.lamps) for one in self.customers)

    def all_see_offer(self, offer: int) -> bool:
        """Whether everybody now sees this offer."""
        return all(one.offer == offer for one in self.customers)

    def all_get_secret(self, told: bool) -> bool:
        """Whether the attack now works for everybody, or for nobody."""
        return all(one.secret is told for one in self.customers)
