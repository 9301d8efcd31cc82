"""The fake Halo's only web page, in plain HTML: create, take and close tickets, to show the sync in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from tocsin.fake_halo.state import DESK_AGENT, UNASSIGNED, FakeHalo, FakeHaloError

_MAX_TICKETS = 20

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f6fa;color:#182433}
main{max-width:960px;margin:0 auto;padding:24px 16px}h1{font-size:24px;margin:0 0 4px}p{margin:0 0 16px;color:#5b6573}
.card{background:#fff;border:1px solid #dce1e7;border-radius:6px;padding:16px;margin:0 0 16px}
label{display:block;font-weight:600;margin:0 0 4px}
input,select{font:inherit;padding:8px;border:1px solid #8a94a3;border-radius:4px;width:100%;box-sizing:border-box}
.row{display:grid;gap:12px;grid-template-columns:1fr 160px auto;align-items:end}
button{font:inherit;padding:8px 14px;border:1px solid #8a94a3;border-radius:4px;background:#fff;cursor:pointer}
button.main{background:#1f5fbf;border-color:#1f5fbf;color:#fff}.acts{display:flex;gap:8px;flex-wrap:wrap;margin-top:8px}
form{display:inline}
.acts form{display:flex;gap:8px}.acts input{width:220px}
.soft{color:#5b6573}.note{border-left:3px solid #dce1e7;padding-left:8px;margin:6px 0}
@media(max-width:600px){.row{grid-template-columns:1fr}}
@media(prefers-color-scheme:dark){body{background:#151f2c;color:#dce1e7}p,.soft{color:#a3adba}
.card{background:#1b2635;border-color:#2c3a4c}input,select,button{background:#151f2c;color:inherit;border-color:#5b6b80}
button.main{background:#3b82f6;border-color:#3b82f6;color:#fff}.note{border-color:#2c3a4c}}
"""


def page(halo: FakeHalo, problem: str = "") -> str:
    """Return the page with the current tickets."""
    with halo.lock:
        tickets = "".join(_ticket(halo, number) for number in sorted(halo.tickets, reverse=True)[:_MAX_TICKETS])
    priorities = "".join(f"<option value={number}>{name}</option>" for number, name in
                         ((1, "Critical"), (2, "High"), (3, "Medium"), (4, "Low")))  # fmt: skip
    warning = f'<p role="alert"><strong>{escape(problem)}</strong></p>' if problem else ""
    empty = '<div class="card soft">No ticket yet. Log one: Tocsin opens an alert and pages Alice.</div>'
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A small Halo</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><main><h1>A small Halo</h1>"
        "<p>It stands in for HaloITSM in the demo. You are Sam Service, an agent.</p>"
        f'{warning}<form class="card row" method="post" action="/desk/log"><div><label for="s">Summary</label>'
        '<input id="s" name="summary" value="VPN down: Zürich, 40 users" required></div>'
        f'<div><label for="p">Priority</label><select id="p" name="priority">{priorities}</select></div>'
        f'<button class="main">Log a ticket</button></form>{tickets or empty}'
        '<p class="soft"><a href="/">Refresh</a> to see what Tocsin wrote.</p></main></html>'
    )


def _ticket(halo: FakeHalo, ticket_id: int) -> str:
    ticket = halo.tickets[ticket_id]
    status = halo.find_name("Status", ticket["status_id"])
    agent = halo.find_name("Agent", ticket["agent_id"])
    notes = "".join(
        f'<div class="note"><strong>{escape(str(action["who"]))}</strong> '
        "<span "
        f'class="soft">{escape(action["datetime"][11:16])}{" · private" if action["hiddenfromuser"] else ""}</span><br>'
        f"{action['note_html'] or escape(str(action['note'] or ''))}</div>"
        for action in halo.actions
        if action["ticket_id"] == ticket_id
    )
    actions = (
        [("open", "Open it again")]
        if ticket["status_id"] == 9
        else [("take", "Take it"), ("release", "Give it back"), ("close", "Close it")]
    )
    buttons = "".join(
        f'<form method="post" action="/desk/{verb}"><input type="hidden" name="ticket" value="{ticket_id}">'
        f"<button>{label}</button></form>"
        for verb, label in actions
    )
    return (
        f'<section class="card"><strong>{ticket_id} · {escape(ticket["summary"])}</strong><div class="soft">'
        f"{escape(status)} · {escape(agent)} · "
        f"{escape(halo.find_name('Priority', ticket['priority_id'], 'priorityid'))}"
        f'</div>{notes}<div class="acts">{buttons}<form method="post" action="/desk/note">'
        f'<input type="hidden" name="ticket" value="{ticket_id}"><input name="note" aria-label="Note on {ticket_id}" '
        f'placeholder="A note"> <button>Write</button></form></div></section>'
    )


def act(halo: FakeHalo, verb: str, form: Mapping[str, str]) -> str:
    """Run a button's action; return an error message, or ""."""
    ticket_id = int(form["ticket"]) if form.get("ticket", "").isdecimal() else 0
    try:
        match verb:
            case "log":
                priority = int(form["priority"]) if form.get("priority", "").isdecimal() else 3
                halo.create_ticket({"summary": form.get("summary", "")[:200], "priority_id": priority}, DESK_AGENT)
            case "take":
                halo.change_ticket(ticket_id, {"agent_id": DESK_AGENT, "status_id": 2}, DESK_AGENT)
            case "release":
                halo.change_ticket(ticket_id, {"agent_id": UNASSIGNED}, DESK_AGENT)
            case "close":
                if halo.find_visible(ticket_id)["agent_id"] == UNASSIGNED:
                    halo.change_ticket(ticket_id, {"agent_id": DESK_AGENT}, DESK_AGENT)
                halo.change_ticket(ticket_id, {"status_id": 9}, DESK_AGENT)
            case "open":
                halo.change_ticket(ticket_id, {"status_id": 1}, DESK_AGENT)
            case "note":
                if form.get("note", "").strip():
                    halo.add_action({"ticket_id": ticket_id, "outcome": "Private Note", "note": form["note"][:2000],
                              "hiddenfromuser": True}, DESK_AGENT)  # fmt: skip
    except FakeHaloError as error:
        return str(error.body or f"Halo refuses that ({error.status}).")
    return ""
