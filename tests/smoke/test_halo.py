"""Two-way HaloITSM sync with real processes: connection, webhook, assignment, and an outage."""

from __future__ import annotations

from tests.doubles.halo import DESK_AGENT, TIMEOUT, HaloServer, running
from tests.support.installation import Installation, ask, traces, until


def notes(server: HaloServer, ticket: int) -> list[str]:
    """What Tocsin wrote on the ticket, by its first words."""
    results = [one for one in server.halo.actions if one["ticket_id"] == ticket and one["hiddenfromuser"]]
    return [str(one["note_html"]).removeprefix("<p>").split(" this")[0] for one in results]


def test_halo_ticket_syncs_both_directions_and_waits_during_outage(tocsin: Installation) -> None:
    with running() as server:
        tocsin.serve(TOCSIN_ALLOW_TARGETS="127.0.0.0/8,::1/128")
        tocsin.api(
            "outbound-integrations",
            {
                "name": "Halo", "kind": "haloitsm", "base_url": f"{server.url}/api/", "client_id": "tocsin",
                "client_secret": "halo-demo-secret", "application": "Tocsin", "agents": {"bob": 8},
                "sync": {"assign": {"note": True, "agent": True}, "close": {"note": True, "status": "Closed"}},
            },
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {tocsin.token}"}
        patched = ask("PATCH", f"{tocsin.url}/api/v1/integrations/HaloITSM", {"outbound": "Halo"}, headers)
        assert patched.status == 200, patched.text
        assert "Signed in" in tocsin.api("outbound-integrations/Halo/test", {})["detail"]["text"]
        assert tocsin.api("outbound-integrations/Halo/refresh", {}) == {"problems": []}
        done = tocsin.api("outbound-integrations/Halo/set-up-webhook", {"integration": "HaloITSM"})
        assert done["ok"], done

        ticket = server.halo.create_ticket({"summary": "VPN down"}, DESK_AGENT)["id"]
        (alert,) = until("the alert is open", lambda: tocsin.api("alerts")["items"])
        assert (alert["source_id"], alert["subject"]) == (str(ticket), "VPN down")
        tocsin.api(f"alerts/{alert['id']}/assign", {"user": "bob"})
        until("Bob has the ticket", lambda: server.halo.tickets[ticket]["agent_id"] == 8)
        assert notes(server, ticket) == ["Carol Clark assigned"]

        server.halo.change_ticket(ticket, {"agent_id": 7}, DESK_AGENT)
        until("Alice has the alert", lambda: tocsin.api(f"alerts/{alert['id']}")["owner"] == "alice")

        # Halo is away: what is done waits, and goes in its order when Halo is back.
        server.api.fault = lambda method, path: TIMEOUT
        tocsin.jump(seconds=10)
        assign = f"alerts/{alert['id']}/assign"
        until("Bob can be given it again", lambda: tocsin.act(assign, {"user": "bob"}).status == 200)
        tocsin.api(f"alerts/{alert['id']}/close", {"note": "Done."})
        calls = until("two wait", lambda: tocsin.api("outbound-integrations/Halo/calls?status=queued")["items"])
        assert len(calls) <= 2
        server.api.fault = lambda method, path: None
        tocsin.jump(minutes=6)
        until("the ticket is closed", lambda: server.halo.tickets[ticket]["status_id"] == 9)
        until("nothing waits", lambda: not tocsin.api("outbound-integrations/Halo/calls?status=queued")["items"])
        assert notes(server, ticket)[:2] == ["Carol Clark assigned", "Carol Clark assigned"]
        assert notes(server, ticket)[2].startswith("Carol Clark closed the alert")
        assert server.halo.tickets[ticket]["agent_id"] == 8
        assert tocsin.api(f"alerts/{alert['id']}")["status"] == "closed"
        assert len(tocsin.api("alerts")["items"]) == 1
        assert not traces(tocsin.logs())
