"""The rule editor as a plain form: rows and YAML both ways, errors at rows, saved only on request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from tests.web.conftest import Company
from tests.web.test_integrations import arrived
from tocsin.inbound.models import InboundMessage, IntegrationVersion
from tocsin.people.models import User

type BrowserOf = Callable[[User], Client]

TICKET = json.dumps({"object_id": 7, "ticket": {"summary": "Hot", "status": {"name": "New"}, "rack": "R4"}})


class Bench:
    """One tab in somebody's browser without scripts: what it shows is what is sent back, with some of it changed."""

    def __init__(self, client: Client, company: Company, tab: str) -> None:
        self.client, self.path = client, f"/integrations/{company.halo.pk}/{tab}/"
        self.text = ""
        self.show(self.client.get(self.path))

    def show(self, answer: Any) -> Any:
        if answer.status_code in (200, 422):
            self.text = answer.content.decode()
        return answer

    def fields(self) -> dict[str, Any]:
        """What a browser would send of the form."""
        form = self.text[
            self.text.index('<form id="editor"') : self.text.index("</form>", self.text.index('id="editor"'))
        ]
        sent: dict[str, Any] = {}
        for tag in re.findall(r"<input [^>]*>", form):
            names = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
            if names.get("type") not in ("checkbox", "radio") or " checked" in tag:
                sent[unescape(names["name"])] = unescape(names.get("value", "on"))
        for name, body in re.findall(r'<textarea [^>]*name="([^"]*)"[^>]*>(.*?)</textarea>', form, re.DOTALL):
            sent[unescape(name)] = unescape(body)
        for name, body in re.findall(r'<select (?!multiple)[^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
            chosen = re.search(r'<option(?: value="([^"]*)")? selected>([^<]*)', body)
            first = re.search(r'<option(?: value="([^"]*)")?>([^<]*)', body)
            match = chosen or first
            sent[unescape(name)] = unescape((match[1] if match[1] is not None else match[2]) if match else "")
        return sent

    def press(self, do: str, **changes: str) -> Any:
        changed = {name.replace("__", "."): value for name, value in changes.items()}
        return self.show(self.client.post(self.path, {**self.fields(), **changed, "do": do}))

    def parts(self) -> dict[str, Any]:
        """What was saved last."""
        return dict(IntegrationVersion.objects.latest("pk").definition)


@pytest.fixture
def bench(company: Company, browser_of: BrowserOf) -> Callable[[str], Bench]:
    return lambda tab: Bench(browser_of(company.manager), company, tab)


def test_what_a_script_has_filled_is_not_filled_again(bench: Callable[[str], Bench]) -> None:
    """A browser sends the last button that was pressed with each form that is drawn again."""
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    fields = {
        **page.fields(),
        "f-subject-origin": "template",
        "f-subject-text": "Now <ticket^summary>",
        "target": "subject",
    }
    headers = {"X-Part": "preview"}
    answer = page.client.post(page.path, {**fields, "do": "pick:ticket^summary"}, headers=headers).content.decode()
    assert '<bdi class="ok-text">Now Hot</bdi>' in answer
    assert "template: Now &lt;ticket^summary&gt;\n" in answer


def test_incomplete_conditions_and_routes_are_rejected_only_on_save(
    bench: Callable[[str], Bench],
) -> None:
    page = bench("rules")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET, **{"close-mode": "when"})
    page.press("cond:close:group")
    assert '<span class="errors"' not in page.text
    assert "Opens an alert" in page.text
    # What is wrong beside it is still found.
    page.press("cond:close:add", **{"close__1__0__field": "nonsense field <"})
    assert '<span class="errors"' in page.text
    routes = bench("routing")
    routes.press("route:0:add")
    assert '<span class="errors"' not in routes.text
    assert routes.press("save").status_code == 422


def test_preset_field_values_can_be_mapped_without_repeating_their_path(
    bench: Callable[[str], Bench],
) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    client = json.dumps({"object_id": 7, "ticket": {"summary": "Hot", "status": {"name": "New"}, "client": "Acme"}})
    page.press("show", payload=client, **{"f-client-table": "Acme = Acme Corp", "f-details-table": "x = y"})
    assert '<bdi class="ok-text">Acme Corp</bdi>' in page.text
    assert page.press("save").status_code == 302
    result = page.parts()["mapping"]["client"]
    assert result[0] == {"path": "ticket^client^name", "map": {"Acme": "Acme Corp"}}
    assert result[2] == {"path": "ticket^client", "only": "words", "map": {"Acme": "Acme Corp"}}
    assert page.parts()["mapping"]["details"]["map"] == {"x": "y"}


def test_incomplete_row_is_rejected_only_on_save(bench: Callable[[str], Bench]) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    page.press("add:custom")
    page.press("add:tag", **{"f-client-origin": "template", "f-subject-text": "ticket^summary"})
    assert '<span class="errors"' not in page.text
    assert '<bdi class="ok-text">Hot</bdi>' in page.text
    assert page.press("save").status_code == 422
    assert "nter a path or choose Default" in page.text
    page.press("show", **{"f-client-origin": "", "t-0-text": "ticket^rack"})
    assert page.press("save").status_code == 302
    assert "custom" not in page.parts()["mapping"]


def test_fields_are_mapped_by_typing_or_clicking_and_saved_explicitly(
    bench: Callable[[str], Bench],
) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    page.press("pick:ticket^summary", target="subject")
    assert page.fields()["f-subject-text"] == "ticket^summary"
    page.press("add:custom")
    page.press("show", **{"c-0-name": "rack", "c-0-text": "ticket^rack", "f-short_text-text": "Now <ticket^summary>"})
    assert '<bdi class="ok-text">R4</bdi>' in page.text
    assert '<bdi class="ok-text">Now Hot</bdi>' in page.text
    assert IntegrationVersion.objects.count() == 1
    assert page.press("save").status_code == 302
    assert page.parts()["mapping"] == {
        "subject": "ticket^summary",
        "short_text": {"template": "Now <ticket^summary>"},
        "custom": {"rack": "ticket^rack"},
    }
    assert not InboundMessage.objects.exists()


def test_clicking_a_value_fills_tags_custom_fields_and_key(bench: Callable[[str], Bench]) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    page.press("add:tag")
    page.press("add:custom", **{"t-0-name": "rack"})
    page.press("pick:ticket^rack", target="t-0", **{"c-0-name": "mood"})
    page.press("pick:ticket^summary", target="c-0")
    page.press("pick:object_id", target="key", key="T")
    assert page.fields()["target"] == "key"
    assert page.press("pick:object_id", target="c-7").status_code == 200
    assert page.press("save").status_code == 302
    saved = page.parts()
    assert saved["mapping"] == {"tags": {"rack": "ticket^rack"}, "custom": {"mood": "ticket^summary"}}
    assert saved["dedup_key"] == "T<object_id>"


@pytest.mark.parametrize(
    ("changes", "row", "message"),
    [
        ({"f-subject-text": "ticket^^^"}, "f-subject", "ends with ^"),
        ({"f-subject-origin": "paths", "f-subject-text": " "}, "f-subject", "nter a path or choose Default"),
        ({"f-subject-text": "a", "f-subject-table": "1 New"}, "f-subject", "line 1"),
        ({"f-subject-origin": "yaml", "f-subject-text": "a: ["}, "f-subject", "Line 1"),
        ({"key": "<ticket^>"}, "key", "ends with ^"),
    ],
)
def test_errors_appear_at_fields_and_nothing_typed_is_lost(
    bench: Callable[[str], Bench], changes: dict[str, str], row: str, message: str
) -> None:
    page = bench("mapping")
    answer = page.press("save", **changes)
    assert answer.status_code == 422
    match = re.search(rf'id="value-{row}"[^>]*><span class="errors"[^>]*>([^<]*)', page.text)
    assert match
    assert message in unescape(match[1])
    assert {name: page.fields()[name] for name in changes} == changes
    assert IntegrationVersion.objects.count() == 1


def test_rows_follow_the_yaml_and_the_yaml_the_rows(bench: Callable[[str], Bench]) -> None:
    page = bench("rules")
    page.press("show", yaml="rules: {close: {any: [{field: source_status, operator: one of, value: [Done, Over]}]}}")
    assert page.fields()["close.0.values"] == "Done\nOver"
    assert page.fields()["close-mode"] == "when"
    page.press("cond:close:add")
    page.press("show", close__1__field="client", close__1__op="not contains", close__1__values="Acme")
    assert "Close the alert: if status is one of Done or Over, or client does not contain Acme." in page.text
    assert "not:" in page.fields()["yaml"]
    assert page.press("save").status_code == 302
    assert page.parts()["rules"]["close"]["any"][1] == {
        "not": {"field": "client", "operator": "contains", "value": "Acme"}
    }
    bad = bench("rules")
    bad.press("show", yaml="rules: [")
    assert "Line 1, column" in bad.text
    assert bad.fields()["yaml"] == "rules: ["


def test_pattern_shows_its_matches_and_invalid_one_its_error(company: Company, bench: Callable[[str], Bench]) -> None:
    arrived(company)
    page = bench("rules")
    page.press("show", **{"filters-mode": "when"})
    page.press("show", filters__0__field="subject", filters__0__op="matches", filters__0__values="d.wn|up")
    assert "VPN <mark>down</mark>" in page.text
    page.press("show", filters__0__values="(")
    assert "Invalid pattern" in page.text
    assert page.fields()["filters.0.values"] == "("


def test_routes_move_and_keep_what_no_row_shows(company: Company, bench: Callable[[str], Bench]) -> None:
    page = bench("routing")
    routes = (
        "routes: [{name: One, priority: low}, {name: Two, escalation_policy: Standard, recipients: {users: [bob]}}]"
    )
    page.press("show", yaml=routes)
    page.press("route:1:up")
    assert (page.fields()["routes.0.name"], page.fields()["routes.1.name"]) == ("Two", "One")
    page.press("route:0:add")
    page.press("route:2:remove")
    answer = page.press("save", **{"routes.0.users": "bob"})
    assert answer.status_code == 302, page.text
    assert page.parts()["routes"] == [
        {"name": "Two", "escalation_policy": company.policy.pk, "recipients": {"users": [company.responder.pk]}},
        {"name": "One", "priority": "low"},
    ]


def test_draft_is_tested_on_recent_messages_with_progress(company: Company, bench: Callable[[str], Bench]) -> None:
    arrived(company)
    page = bench("rules")
    page.press("backtest", yaml="filters: false")
    assert "1 outcome would change" in page.text
    assert "Mapped Ignored instead of Mapped Opened" in page.text
    answer = page.client.post(f"{page.path}backtest", page.fields())
    streamed = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    assert streamed.startswith("1 1\n")
    assert "Mapped Ignored instead of Mapped Opened" in streamed
    refused = page.client.post(f"{page.path}backtest", {**page.fields(), "yaml": "filters: [", "yaml_digest": ""})
    assert "Fix the marked fields" in b"".join(refused.streaming_content).decode()  # type: ignore[attr-defined]
    assert IntegrationVersion.objects.count() == 1


def test_logged_message_opens_in_the_rule_editor(company: Company, browser_of: BrowserOf) -> None:
    arrived(company)
    number = arrived(company, raw=b'{"what": "Boiler"}', outcome="Mapping Failed", subject="")
    client = browser_of(company.manager)
    assert f"/mapping/?message={number}" in client.get(f"/inbound-log/{number}/").content.decode()
    for message, shown in ((number, True), ("nonsense", False)):
        answer = client.get(f"/integrations/{company.halo.pk}/mapping/?message={message}")
        assert ("Boiler" in answer.content.decode()) is shown


def test_typing_sends_only_the_matching_results(company: Company, bench: Callable[[str], Bench]) -> None:
    arrived(company)
    page = bench("mapping")
    sent = {**page.fields(), "f-client-text": "ticket^status^name"}
    part = page.client.post(page.path, sent, headers={"X-Part": "preview"}).content.decode()
    assert "<html" not in part
    assert 'name="f-client-text"' not in part, "what somebody writes in is not replaced under the cursor"
    assert re.search(r'id="value-f-client" hx-swap-oob="true"><bdi class="ok-text">New', part)
    assert 'id="outcome"' in part


def test_any_payload_may_be_viewed_but_changes_require_permission(
    company: Company, browser_of: BrowserOf, bench: Callable[[str], Bench]
) -> None:
    arrived(company, raw=b"\xff\xfe", subject="")
    page = bench("mapping")
    for payload in ("", "[", "[]", "null", '{"a": {"^": [1, {"": "<b>"}]}}', "[" * 3000, "x" * 300_000):
        assert page.press("show", chosen="pasted", payload=payload).status_code == 200
    assert "Larger than 200 kB" in page.text
    huge = page.client.post(page.path, {"chosen": "pasted", "payload": "x" * (5 * 1024 * 1024)})
    assert huge.status_code == 413
    assert "Uploads are limited to 5 MB" in huge.content.decode()
    watching = browser_of(company.observer)
    assert watching.get(page.path).status_code == 200
    assert watching.post(page.path, {"do": "show"}).status_code == 403
