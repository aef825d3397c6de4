"""A real process whose trust file stands on roots."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.patcher.test_roots import OLD, signed
from zdpatch.agent.protocol import Apply, Hello, Stage
from zdpatch.patcher import roots
from zdpatch.patcher.keyring import Role
from zdpatch.patcher.roots import Chain

if TYPE_CHECKING:
    from tests.agent.live.conftest import Site

pytestmark = pytest.mark.e2e
DAY = 86400


def test_a_process_on_roots(site: Site) -> None:
    """It answers and is patched, and needs no module of the standard library for it later."""
    mint, end = site.mint, int(time.time()) + 365 * DAY
    names = (*OLD, "ci", "alice", "bob")
    keys = {mint.keyid(name): mint.trusted(name, not_after=end) for name in names}
    policy = mint.policy(keys=keys)
    role = Role(keyids=sorted(mint.keyid(name) for name in OLD), threshold=2)
    trust = msgspec.structs.replace(policy, roles={**policy.roles, "root": role})
    document = signed(mint, roots.make(trust, end), "anna", "carl")
    path = site.home / "trust.json"
    path.write_bytes(Chain([document]).dump())
    child = site.start()
    operator = site.operator(child)
    child.tell("later.need(later.ENGINE) and None")
    child.tell("before = set(sys.modules)")
    assert operator.ask(Hello()).result["trusted"]
    digest, raw = site.fix()
    assert operator.ask(Stage(digest), raw).code == "ok"
    assert operator.ask(Apply(digest)).code == "ok"
    assert child.tell("cart.vat()") == 2
    new = "[m.partition('.')[0] for m in set(sys.modules) - before]"
    assert child.tell(f"sorted(set({new}) & sys.stdlib_module_names)") == []
    path.write_bytes(msgspec.json.encode(policy))
    assert operator.ask(Stage(digest), raw).code == "ZDP-117"
