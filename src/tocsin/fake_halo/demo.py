"""The fake Halo of the demo: on its own port, with one ticket and with Tocsin's webhook configured."""

from __future__ import annotations

import time
from datetime import timedelta

from tocsin.fake_halo.hooks import FULL_LINKED
from tocsin.fake_halo.server import HaloServer
from tocsin.fake_halo.state import EVENTS, FakeHalo

#: The preferred port.
PORT = 8687


def start() -> HaloServer:
    """Return a fake Halo server. Its ticket numbers start beyond those of earlier runs of the demo."""
    halo = FakeHalo()
    ticket = {
        "summary": "VPN down: Zürich, 40 users",
        "details": "VPN gateway zrh-vpn-01 does not answer.",
        "priority_id": 1,
    }
    # Old enough that the poll for changed tickets does not find the ticket before the curl command sends it.
    a_week_ago = (halo.now() - timedelta(days=7)).replace(tzinfo=None).isoformat(timespec="milliseconds")
    halo.create_ticket(
        ticket | dict.fromkeys(("dateoccurred", "last_update", "lastactiondate"), a_week_ago), agent_id=5
    )
    halo._next_ticket = 30_000 + int(time.time()) % 1_000_000
    try:
        server = HaloServer(halo, port=PORT)
    except OSError:
        server = HaloServer(halo)
    server.start()
    return server


def send_to(server: HaloServer, url: str) -> None:
    """Configure the webhook: every event, with linked objects, to `url`."""
    hook = {"id": "demo", "name": "Tocsin", "url": url, "type": 0, "active": True, "payload_type": FULL_LINKED}
    with server.halo.lock:
        server.halo.webhooks["demo"] = hook
        for event_number in EVENTS.values():
            server.halo.notifications[event_number] = {
                "id": event_number,
                "webhook_id": "demo",
                "eventno": event_number,
            }
