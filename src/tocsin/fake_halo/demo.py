"""The small Halo beside the demo: started on a port of its own, with one ticket in it and Tocsin's webhook in place."""

from __future__ import annotations

import time
from datetime import timedelta

from tocsin.fake_halo.hooks import FULL_LINKED
from tocsin.fake_halo.server import HaloServer
from tocsin.fake_halo.state import EVENTS, FakeHalo

#: Where it is looked for first.
PORT = 8687

#: The ticket that the demo's curl line tells of.
FIRST_TICKET = 20817


def start() -> HaloServer:
    """A running Halo. Its tickets begin at a number that no earlier run of the demo has used."""
    halo = FakeHalo()
    ticket = {
        "summary": "VPN down: Zürich, 40 users",
        "details": "VPN gateway zrh-vpn-01 does not answer.",
        "priority_id": 1,
    }
    # So old that no look at what changed finds it before the curl line tells of it.
    before = (halo.now() - timedelta(days=7)).replace(tzinfo=None).isoformat(timespec="milliseconds")
    halo.log(ticket | dict.fromkeys(("dateoccurred", "last_update", "lastactiondate"), before), by=5)
    halo._next_ticket = 30_000 + int(time.time()) % 1_000_000
    try:
        server = HaloServer(halo, port=PORT)
    except OSError:
        server = HaloServer(halo)
    server.start()
    return server


def send_to(server: HaloServer, url: str) -> None:
    """Its webhook: every event, with linked objects, to `url`."""
    hook = {"id": "demo", "name": "Tocsin", "url": url, "type": 0, "active": True, "payload_type": FULL_LINKED}
    with server.halo.lock:
        server.halo.webhooks["demo"] = hook
        for number in EVENTS.values():
            server.halo.notifications[number] = {"id": number, "webhook_id": "demo", "eventno": number}
