"""Pages that compute over stored messages open in time, whatever strangers have sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from secrets import token_urlsafe

import pytest
from django.test import Client

from tests.fuzz.targets import TARGETS
from tests.support.integrations import inbound_server
from tests.support.variants import first
from tests.web.conftest import Company
from tests.web.test_maintenance import form as window_form
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED
from tocsin.core.ids import uuid7
from tocsin.inbound.admin import commands
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.inbound.storage import messages
from tocsin.people.models import User

#: What one page may take: two seconds of computing, on a machine with much else to do.
MAX_SECONDS = 15

#: Arrays and objects of many elements, in the places where a mapping looks.
LARGE = (
    {f"key{number}": f"host {number} is down" for number in range(3_000)},
    {"id": "1", "status": "firing", "items": [{"host": f"h{number}", "state": "down"} for number in range(3_000)]},
    {"subject": "disk full", "items": [[number] * 3 for number in range(3_000)], "tags": list(range(3_000))},
    {
        "ticket": {
            "id": 7,
            "summary": "x",
            "status": {"name": "New"},
            "notes": [{"a": number} for number in range(3_000)],
        }
    },
    {"alerts": [{"labels": {"alertname": f"a{number}"}, "status": "firing"} for number in range(900)]},
    [{"host": f"h{number}"} for number in range(3_000)],
    {f"key{number}": {"host": f"h{number}"} for number in range(20_000)},
)


@pytest.fixture
def general(company: Company) -> Integration:
    spec = {"name": "General", "kind": "api", "escalation_policy": company.policy.name, "anyway": True}
    return commands.save_integration(spec, actor=COMMAND_LINE, now=company.now)


def send_corpus(*integrations: Integration) -> None:
    """Posts every kept input of the fuzzer and the large messages to the integrations."""
    bodies = [json.dumps(body).encode() for body in LARGE]
    bodies += [case.body for target in TARGETS for case in target.corpus().values()]
    with inbound_server(max_wait=60.0) as server:
        for integration in integrations:
            for body in bodies:
                assert server.post(integration, body).status < 500


def repeat(integration: Integration, times: int) -> None:
    """Stores each of the integration's messages again, as if it had arrived so often."""
    for row in list(InboundMessage.objects.filter(integration=integration)):
        for _ in range(times):
            row.pk = uuid7()
            row._state.adding = True
            row.save()


@pytest.mark.parametrize("step", first(1, (10, 1)))
def test_every_page_that_reads_messages_opens(
    step: int, company: Company, general: Integration, browser_of: Callable[[User], Client]
) -> None:
    """Of the small messages, each page reads one in `step`."""
    send_corpus(general, company.halo)
    repeat(general, 8)
    client = browser_of(company.admin)
    secret = tokens.create(
        company.admin, token_urlsafe(8), limits=UNLIMITED, actor=COMMAND_LINE, now=company.now
    ).secret
    api = {"Authorization": f"Bearer {secret}"}
    slow, partial = [], 0

    def opens(method: str, path: str, data: object = None, **headers: str) -> str:
        began = time.monotonic()
        send = client.post if method == "POST" else client.get
        more = {"content_type": "application/json"} if isinstance(data, bytes) else {}
        response = send(path, data, headers=headers, **more)
        content = b"".join(response) if response.streaming else response.content
        if (took := time.monotonic() - began) > MAX_SECONDS:
            slow.append((path, took))
        assert response.status_code in (200, 422), (path, response.status_code)
        return content.decode()

    for integration in (general, company.halo):
        base = f"/integrations/{integration.pk}/"
        for page in ("", "mapping/", "rules/", "routing/", "versions/", "test/", "settings/"):
            opens("GET", base + page)
        text = opens("GET", f"{base}paging-preset/", **{"X-Part": "counts"})
        partial += "left out" in text
        rows = {row.raw: row for row in InboundMessage.objects.filter(integration=integration).order_by("pk")}
        chosen = [row for number, row in enumerate(rows.values()) if len(row.raw) > 10_000 or number % step == 0]
        for row in chosen:
            opens("GET", f"/inbound-log/{row.pk}/")
            opens("GET", f"{base}mapping/?message={row.pk}")
            if len(row.raw) > 10_000:
                opens("GET", f"/inbound-log/{row.pk}/?rules=current")
                opens("GET", f"/api/v1/inbound-messages/{row.pk}", **api)
                opens("POST", f"{base}test/", {"chosen": f"log:{row.pk}", "payload": ""})
        opens("POST", f"{base}mapping/", {"do": "backtest", "chosen": f"log:{row.pk}"})
        partial += "left out" in opens("POST", f"{base}rules/backtest", {"chosen": f"log:{row.pk}"})
        opens("POST", f"/api/v1/integrations/{integration.pk}/backtest", b"{}", **api)
        for body in LARGE:
            opens("POST", f"/api/v1/integrations/{integration.pk}/test", json.dumps(body).encode(), **api)
    for page in ("/", "/inbound-log/", "/alerts/", "/integrations/", "/system/", "/reports/"):
        opens("GET", page)
    opens("POST", "/maintenance/new/", window_form(company, do="preview", integrations=[general.pk]))
    assert slow == []
    assert partial >= 2


def test_message_of_many_values_is_shown_without_a_trace(
    company: Company, general: Integration, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_VALUES", 3)
    with inbound_server() as server:
        server.post(general, {"a": 1, "b": 2, "c": 3, "d": 4})
    row = InboundMessage.objects.get()
    page = browser_of(company.admin).get(f"/inbound-log/{row.pk}/").content.decode()
    assert "This message has more than" in page
    assert "&quot;d&quot;: 4" in page
