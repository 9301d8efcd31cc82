"""The rule editor as a plain form: rows and YAML both ways, errors at rows, saved only on request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from django.test import Client

from tests.support.form_data import filled
from tests.web.conftest import Company
from tests.web.integrations.test_integrations import arrived
from tocsin.access.audit import COMMAND_LINE
from tocsin.inbound.admin import specs
from tocsin.inbound.models import InboundMessage, IntegrationVersion
from tocsin.people.changes import groups
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
        return {name: values if len(values) > 1 else values[0] for name, values in filled(self.text, "editor").items()}

    def press(self, do: str, **changes: Any) -> Any:
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


def test_first_path_is_shown_and_the_others_are_fallbacks(bench: Callable[[str], Bench]) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    assert page.fields()["target"] == ""
    assert 'placeholder="ticket^status^name"' in page.text
    assert "+8 fallbacks" in page.text
    page.press("pick:ticket^summary", target="")
    assert "ticket^summary" not in [value for name, value in page.fields().items() if name.endswith("-text")]
    page.press("show", **{"f-subject-origin": "paths", "f-subject-text": "ticket^summary\nticket^title"})
    assert "+1 fallback<" in page.text
    assert "Review changes" in page.text


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
    both = ["ticket^client", "ticket^client_id"]
    assert result[2] == {"paths": both, "only": "words", "map": {"Acme": "Acme Corp"}}
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
    assert "Close the alert when status is one of Done or Over, or client does not contain Acme." in page.text
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
    assert "Invalid regex" in page.text
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


def test_picked_group_and_client_table_need_no_second_click(company: Company, bench: Callable[[str], Bench]) -> None:
    spec = {"name": "Customers", "clients": [{"client": "Acme", "group": "Night"}]}
    table = specs.save_client_table(spec, actor=COMMAND_LINE, now=company.now)
    page = bench("routing")
    page.press("route:0:add")
    client = {"routes.0.when.0.field": "client", "routes.0.when.0.op": "exists"}
    page.press("show", **client, **{"routes.0.groups": "Night", "routes.0.client_table": "Customers"})
    assert "by client table Customers, to Night" in page.text
    assert re.search(r'pick-chip">.*<bdi>Night</bdi><input [^>]*value="Night" checked', page.text)
    # Both the chips and what is picked beside them.
    answer = page.press("save", **{"routes.0.groups": ["Night", "Service Desk"], "routes.0.users": "alice"})
    assert answer.status_code == 302, page.text
    (route,) = page.parts()["routes"]
    assert route["recipients"] == {"users": [company.admin.pk], "groups": [company.night.pk, company.desk.pk]}
    assert route["client_table"] == table.pk
    shown = page.show(page.client.get(page.path)).content.decode()
    assert "<bdi>Alice Andersson</bdi>" in shown
    page.press("save", **{"routes.0.groups": "Service Desk", "routes.0.users": "/"})
    assert page.parts()["routes"][0]["recipients"] == {"users": [], "groups": [company.desk.pk]}
    page.show(page.client.get(page.path))
    assert "No users" in page.text
    page.press("save", **{"routes.0.groups": "", "routes.0.users": ""})
    assert "recipients" not in page.parts()["routes"][0]


def test_selected_value_that_no_longer_exists_is_not_discarded(company: Company, bench: Callable[[str], Bench]) -> None:
    page = bench("routing")
    recipients = "recipients: {users: [ghost], groups: [Nowhere]}"
    page.press("show", yaml=f"routes: [{{escalation_policy: Gone, during: Never, client_table: Lost, {recipients}}}]")
    fields = {**page.fields(), "yaml_digest": "", "yaml": ""}
    fields = {name: value for name, value in fields.items() if not name.startswith("yaml")}
    answer = page.show(page.client.post(page.path, {**fields, "do": "save"}))
    assert answer.status_code == 422
    for name, value in (
        ("policy", "Gone"), ("during", "in:Never"), ("client_table", "Lost"), ("users", "ghost"), ("groups", "Nowhere"),
    ):  # fmt: skip
        assert value in page.fields()[f"routes.0.{name}"], name
        field = page.text[page.text.rindex(f'name="routes.0.{name}"') :]
        error = re.search(r'<p class="errors" role="alert">([^<]*)</p>', field)
        assert error
        assert f'"{value.removeprefix("in:")}"' in unescape(error[1])
    assert IntegrationVersion.objects.count() == 1


@pytest.mark.parametrize("group", ["Empty", "Night"])
def test_route_that_reaches_nobody_is_saved_only_after_confirmation(
    company: Company, bench: Callable[[str], Bench], group: str
) -> None:
    groups.save_group({"name": "Empty"}, actor=COMMAND_LINE, now=company.now)
    page = bench("routing")
    page.press("route:0:add")
    route = {"routes.0.when.0.field": "client", "routes.0.when.0.op": "exists", "routes.0.groups": group}
    assert page.press("save", **route).status_code == 422
    assert "No one would be notified" in page.text
    assert re.search(r'class="errors" role="alert">No one would be notified', page.text)
    assert page.fields()["routes.0.groups"] == [group, ""]
    assert IntegrationVersion.objects.count() == 1
    assert page.press("save", anyway="on").status_code == 302
    assert page.parts()["routes"][0]["recipients"]["groups"]


def test_new_custom_field_is_filled_next_and_clicks_are_undone(bench: Callable[[str], Bench]) -> None:
    page = bench("mapping")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    page.press("add:custom", **{"f-subject-text": "object_id"})
    assert page.fields()["target"] == "c-0"
    page.press("pick:ticket^rack", **{"c-0-name": "rack"})
    assert page.fields()["c-0-text"] == "ticket^rack"
    assert "<bdi>rack: ticket^rack</bdi>" in page.text
    page.press("undo")
    assert (page.fields()["c-0-name"], page.fields()["c-0-text"]) == ("rack", "")
    assert page.fields()["f-subject-text"] == "object_id"
    assert page.fields()["undo"] == ""
    page.press("remove:c-0")
    assert "c-0-name" not in page.fields()
    page.press("undo")
    assert page.fields()["c-0-name"] == "rack"


def test_choosing_default_restores_the_default(bench: Callable[[str], Bench]) -> None:
    page = bench("mapping")
    assert page.press("save", **{"f-subject-text": "ticket^rack", "f-subject-table": "R4 = Rack 4"}).status_code == 302
    page.show(page.client.get(page.path))
    assert page.fields()["f-subject-origin"] == "paths"
    page.press("show", **{"f-subject-origin": ""})
    assert (page.fields()["f-subject-text"], page.fields()["f-subject-table"]) == ("", "")
    page.press("save")
    assert page.parts().get("mapping", {}) == {}


def test_clicking_a_value_adds_a_condition_that_it_meets(company: Company, bench: Callable[[str], Bench]) -> None:
    page = bench("rules")
    assert page.text.index('data-row="filters"') < page.text.index('data-row="close"') < page.text.index("open-mode")
    page.press("show", chosen="pasted")
    page.press("show", payload=TICKET)
    page.press("pick:ticket^status^name")
    assert "An alert opens only when status equals New." in page.text
    page.press("pick:ticket^rack", target="filters.0")
    assert "An alert opens only when status equals New, and ticket^rack equals R4." in page.text
    assert "<bdi>Filters: ticket^rack equals R4</bdi>" in page.text
    page.press("undo")
    assert "An alert opens only when status equals New." in page.text
    # The default of a rule stays, and the condition is added to it.
    default = re.search(r'id="sentence-open">Open an alert when ([^<]*)\.</p>', page.text)
    assert default
    page.press("pick:ticket^rack", target="open")
    assert page.fields()["open-mode"] == "when"
    assert "ticket^rack equals R4" in page.text
    assert page.press("save").status_code == 302
    saved = page.parts()
    assert saved["filters"] == {"field": "source_status", "operator": "equals", "value": "New"}
    assert saved["rules"]["open"]["all"][1] == {"field": "ticket^rack", "operator": "equals", "value": "R4"}
    routes = bench("routing")
    routes.press("show", chosen="pasted")
    routes.press("show", payload=TICKET)
    routes.press("pick:ticket^rack", target="new")
    routes.press("pick:ticket^summary", target=routes.fields()["target"])
    assert "When ticket^rack equals R4, and subject equals Hot: page using the integration" in routes.text
    routes.press("route:0:remove")
    routes.press("undo")
    assert "When ticket^rack equals R4, and subject equals Hot" in routes.text


def test_conditions_survive_while_the_default_is_chosen(bench: Callable[[str], Bench]) -> None:
    page = bench("rules")
    page.press("show", yaml="rules: {close: {field: client, operator: equals, value: Acme}}")
    page.press("show", **{"close-mode": "kind"})
    assert "Close the alert when status contains the word Closed." in page.text
    assert "client" not in page.fields()["yaml"]
    page.press("show", **{"close-mode": "when"})
    assert "Close the alert when client equals Acme." in page.text


def reviewed(page: str) -> str:
    match = re.search(r'name="reviewed" value="([^"]+)"', page)
    assert match
    return match[1]


def test_save_that_changes_who_is_paged_is_reviewed_first(company: Company, bench: Callable[[str], Bench]) -> None:
    arrived(company)
    page = bench("rules")
    answer = page.press("save", yaml="filters: false")
    assert answer.status_code == 200
    assert "Review before saving" in page.text
    assert "1 message would no longer open an alert" in page.text
    assert "VPN down" in page.text
    assert IntegrationVersion.objects.count() == 1
    stamp = reviewed(page.text)
    # Another change is shown again.
    other = page.press("save", reviewed=stamp, yaml="rules: {open: false}", yaml_digest="")
    assert other.status_code == 200
    assert reviewed(page.text) != stamp
    assert page.press("save", reviewed=reviewed(page.text)).status_code == 302
    assert page.parts()["rules"] == {"open": False}
    # What pages nobody else is saved at once.
    assert bench("mapping").press("save", **{"f-short_text-text": "ticket^summary"}).status_code == 302


def test_buttons_that_change_who_is_paged_are_confirmed(company: Company, browser_of: BrowserOf) -> None:
    ticket = {"id": 7, "status": {"name": "New"}, "priority": {"name": "Low"}}
    arrived(company, raw=json.dumps({"object_id": 7, "ticket": ticket}).encode())
    client, halo = browser_of(company.manager), f"/integrations/{company.halo.pk}"
    for path, posted, effect in (
        (f"{halo}/status", {"status": "New", "does": "update"}, "1 message would no longer open an alert"),
        (f"{halo}/versions/", {"number": "1"}, "1 more message would open an alert"),
        (f"{halo}/paging-preset/", {"which": "urgent", "do": "save"}, "1 alert would no longer page anyone"),
    ):
        count = IntegrationVersion.objects.count()
        shown = client.post(path, posted)
        assert shown.status_code == 200
        assert effect in shown.content.decode()
        assert IntegrationVersion.objects.count() == count
        again = {**posted, "reviewed": reviewed(shown.content.decode())}
        if "do" not in posted:
            form = filled(shown.content.decode(), "confirm")
            assert {name: form[name] for name in posted} == {name: [value] for name, value in posted.items()}
        assert client.post(path, again).status_code == 302
        assert IntegrationVersion.objects.count() == count + 1
