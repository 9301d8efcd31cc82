"""The normalizer: a body becomes normalized events, by kind defaults and integration settings."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.mapping import likely_texts
from tocsin.inbound.mapping.message_objects import collect
from tocsin.inbound.parsing.decode import Element, decode

HALO = load_kinds()["haloitsm"]
API = load_kinds()["api"]
ADDRESS = {"halo_address": "https://desk.example"}


def read(payload: object, definition: IntegrationDefinition | None = None, kind: Any = HALO) -> NormalizedEvent:
    event = read_any(payload, definition, kind)
    assert isinstance(event, NormalizedEvent)
    return event


def read_any(
    payload: object, definition: IntegrationDefinition | None = None, kind: Any = HALO
) -> NormalizedEvent | Rejected:
    reader = compile_normalizer(kind, definition or IntegrationDefinition(settings=ADDRESS))
    (element,) = decode(json.dumps(payload).encode(), None, lenient=kind.lenient).elements
    return reader.normalize(element)


def halo(status: object = None, **more: object) -> dict[str, object]:
    ticket = {"id": 7, "summary": "VPN", **more}
    return {
        "id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001",
        "event": "ticket status changed",
        "object_id": 7,
        "agent_id": 3,
        "webhook_id": "53232637-7724-4a19-b126-3c7267a292aa",
        "timestamp": "2026-11-24T09:15:02.1234567Z",
        "ticket": ticket if status is None else {**ticket, "status": status},
    }


def test_a_reading_holds_what_deciding_needs() -> None:
    event = read(halo({"id": 1, "name": "New"}))
    assert event.action is EventAction.OPEN
    assert str(event.rule_match.reason) == 'status "New" contains the word New'
    assert (event.source_id, event.source_name) == ("7", "HaloITSM")
    assert event.delivery_id == "0d0c6f1e-2b7a-4d7b-9a3c-000000000001"
    assert event.source_time == datetime(2026, 11, 24, 9, 15, 2, 123456, tzinfo=UTC)
    assert event.dedup_key is None
    assert event.mapped.text("source_url") == "https://desk.example/ticket?id=7"
    assert event.check_filters().is_true
    assert event.choose_route(lambda hours: False).index is None


class TestHaloStatus:
    """The order in which a status is looked for."""

    @pytest.mark.parametrize(
        ("payload", "status"),
        [
            (halo({"id": 9, "name": "Resolved"}, status_name="Closed", status_id=1), "Resolved"),
            (halo({"id": 9}, status_name="On Hold", status_id=1), "On Hold"),
            (halo("With User", status_id=9), "With User"),
            (halo(9), "Closed"),
            (halo("9"), "Closed"),
            (halo(9.0), "Closed"),
            (halo("9.0"), "Closed"),
            (halo({"id": 8}), "Resolved"),
            (halo(status_id="2"), "In Progress"),
            (halo(Status_ID=1), "New"),
            (halo(statusid=1), "New"),
            ({"object_id": 7, "event": "New Ticket Logged"}, "New"),
            ({"object_id": 7, "event": "ticket closed", "ticket": {"status_id": 77}}, "Closed"),
            (halo(77, hasbeenclosed=True, dateclosed="2026-11-24T11:02:44.203"), "Closed"),
            (halo(77, hasbeenclosed=True, dateclosed="1900-01-01T00:00:00"), "Status 77"),
            (halo(77, hasbeenclosed=False, dateclosed="2026-11-24T11:02:44.203"), "Status 77"),
            (halo("77"), "Status 77"),
            (halo({"id": 77}), "Status 77"),
            ({"ticket_id": 7, "status": "New"}, "New"),
            # A custom payload may send a number's display value under the number's name.
            (halo(status_id="New"), "New"),
            ({"ticket_id": 7, "status_id": "Closed"}, "Closed"),
            ({"ticket_id": 7, "event": "New ticket logged", "status_id": "<<ticket^status_id>>"}, "New"),
            ({"ticket_id": 7, "status": "1"}, "New"),
            ({"ticket_id": 7, "STATUS": {"name": "Closed"}}, "Closed"),
        ],
    )
    def test_preset_fields_are_tried_in_order(self, payload: dict[str, object], status: str) -> None:
        assert read(payload).mapped.text("source_status") == status

    def test_ids_can_be_named_differently(self) -> None:
        definition = IntegrationDefinition(settings={"statuses": {"1": "Closed", "77": "New and hot"}})
        assert read(halo(77), definition).action is EventAction.OPEN
        assert read(halo(1), definition).action is EventAction.CLOSE
        assert read(halo(9), definition).mapped.text("source_status") == "Status 9"

    def test_a_change_to_nothing_is_ignored_with_advice(self) -> None:
        event = read(halo())
        assert event.action is EventAction.NONE
        assert "full object with linked objects" in str(event.rule_match.reason)

    def test_any_other_message_of_a_ticket_is_an_update(self) -> None:
        assert read({"object_id": 7, "event": "SLA warning"}).action is EventAction.UPDATE
        assert read(halo("Waiting")).action is EventAction.UPDATE

    def test_resolved_closes_with_one_more_value(self) -> None:
        close = {"field": "source_status", "operator": "contains", "value": ["Closed", "Resolved"]}
        assert read(halo("Resolved")).action is EventAction.UPDATE
        assert read(halo("Resolved"), IntegrationDefinition(rules={"close": close})).action is EventAction.CLOSE

    def test_resolved_closes_by_event_too_once_it_is_set(self) -> None:
        changed = {"object_id": 7, "event": "Ticket Resolved", "ticket": {"status": "Sorted"}}
        own = {
            "close": {
                "any": [HALO.rules["close"], {"field": "source_status", "operator": "equals", "value": "Resolved"}]
            }
        }
        assert read(changed).action is EventAction.UPDATE
        closed = read(changed, IntegrationDefinition(rules=own))
        assert closed.action is EventAction.CLOSE
        assert str(closed.rule_match.reason) == 'event "Ticket Resolved", although the status is "Sorted"'

    def test_a_status_that_is_set_outweighs_all_but_the_event(self) -> None:
        own = {
            "open": {"any": [HALO.rules["open"], {"field": "source_status", "operator": "equals", "value": "Sorted"}]}
        }
        definition = IntegrationDefinition(rules=own)
        assert read(halo("Sorted", status_id=9), definition).action is EventAction.OPEN
        assert read({**halo("Sorted"), "event": "ticket closed"}, definition).action is EventAction.CLOSE

    def test_a_deleted_ticket_cancels(self) -> None:
        assert (
            read({"object_id": 7, "event": "Ticket deleted", "ticket": {"status": "New"}}).action is EventAction.CANCEL
        )


class TestHaloTicketId:
    @pytest.mark.parametrize(
        "payload",
        [
            {"object_id": 7, "ticket": {"id": 8}, "ticket_id": 9},
            {"object_id": "0007"},
            {"object_id": 0, "ticket": {"id": 7.0}},
            {"Ticket": {"ID": "7"}},
            {"TicketID": 7},
            {"ticketId": "7"},
            {"object": {"id": 7}},
            {"Data": {"TICKET_ID": 7}},
            {"event_data": {"id": 7}},
            {"id": 7},
            {"id": "7"},
            {"id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001", "action": {"id": 3, "ticket_id": 7}},
        ],
    )
    def test_preset_field_is_extracted(self, payload: dict[str, object]) -> None:
        assert read(payload).source_id == "7"

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"id": "0d0c6f1e-2b7a-4d7b-9a3c-000000000001"},
            {"id": None},
            {"object_id": 0},
            {"ticket": {"id": -1}},
            {"id": "x"},
        ],
    )
    def test_is_needed(self, payload: dict[str, object]) -> None:
        refused = read_any(payload)
        assert isinstance(refused, Rejected)
        assert refused.code == "no_id"
        assert refused.detail.startswith("no ticket id in the message; looked at object_id, ticket^ticket_id")


class TestHaloAgent:
    @pytest.mark.parametrize(
        "ticket",
        [
            {"agent": {"id": 1, "name": "Unassigned"}},
            {"agent_id": 1},
            {"agent": "Unassigned"},
            {"agent_id": "1.0"},
            {"agent": 1},
            # It is an agent as others are: people may call it something else.
            {"agent": {"id": 1, "name": "Nicht zugewiesen"}, "agent_id": 1},
            {"agent_id": 1, "agent_name": "Warteschlange"},
        ],
    )
    def test_explicitly_unassigned_has_no_owner(self, ticket: dict[str, object]) -> None:
        assert read(halo("New", **ticket)).mapped.is_nobody("agent")

    def test_envelope_agent_is_the_actor_not_the_owner(self) -> None:
        mapped = read(halo("New")).mapped
        assert "agent" not in mapped.values
        assert "agent_id" not in mapped.values

    def test_a_flat_payload_has_its_agent_at_the_top(self) -> None:
        assert read({"ticket_id": 7, "agent_id": 12}).mapped.text("agent") == "Agent 12"
        assert read({"ticket_id": 7, "agent_id": "1", "agent_name": "Niemand"}).mapped.is_nobody("agent")

    @pytest.mark.parametrize(
        "payload", [halo("New", agent_id="Unassigned"), {"ticket_id": 7, "agent_id": "Unassigned"}]
    )
    def test_custom_payload_may_name_an_empty_owner(self, payload: dict[str, object]) -> None:
        assert read(payload).mapped.is_nobody("agent")

    def test_an_agent_is_known_by_id_name_and_address(self) -> None:
        mapped = read(halo("New", agent={"id": 12, "name": "Noor", "email": "noor@desk.example"})).mapped
        assert (mapped.text("agent"), mapped.text("agent_id")) == ("Noor", "12")
        assert mapped.text("assignee") == "noor@desk.example"
        assert read(halo("New", agent={"id": 12, "name": "Noor"})).mapped.text("assignee") == "Noor"

    def test_agent_ids_can_be_named(self) -> None:
        definition = IntegrationDefinition(settings={"agents": {"12": "Noor"}})
        assert read(halo("New", agent_id=12), definition).mapped.text("agent") == "Noor"


def test_custom_payload_may_put_display_values_in_id_fields() -> None:
    """Halo asks for each field whether its id or its display value is sent; the key stays."""
    shown = {
        "Client_ID": "Acme",
        "Site_ID": "Zürich",
        "TeamID": "Network",
        "TicketType_ID": "Project",
        "Agent_ID": "Noor",
    }
    mapped = read({"Ticket_ID": "7", "StatusID": "New", **shown}).mapped
    results = [mapped.text(name) for name in ("client", "site", "team", "ticket_type", "agent")]
    assert results == list(shown.values())


class TestHaloPriority:
    @pytest.mark.parametrize(
        ("ticket", "priority", "severity"),
        [
            ({"priority": {"name": "1 - Critical"}}, "critical", "1 - Critical"),
            ({"priority_name": "P2"}, "high", "P2"),
            ({"priority": "Low"}, "low", "Low"),
            ({"priority_id": "Critical"}, "critical", "Critical"),
            ({"priority_id": 1}, None, "Priority 1"),
            ({"priority": 3}, None, "Priority 3"),
            ({"priority": {"priorityid": 2, "name": "Sofort"}}, None, "Sofort"),
            ({}, None, None),
        ],
    )
    def test_names_are_understood_and_numbers_only_shown(
        self, ticket: dict[str, object], priority: str | None, severity: str | None
    ) -> None:
        event = read(halo("New", **ticket))
        assert (event.mapped.text("priority"), event.mapped.text("severity")) == (priority, severity)
        assert bool(event.notes) is (priority is None and severity is not None)

    def test_numbers_and_names_can_be_mapped(self) -> None:
        definition = IntegrationDefinition(settings={"priorities": {"1": "critical", "Sofort": "high"}})
        assert read(halo("New", priority_id=1), definition).mapped.text("priority") == "critical"
        assert read(halo("New", priority={"name": "sofort"}), definition).mapped.text("priority") == "high"


@pytest.mark.parametrize(
    "subject", ["(Tocsin #42)", "Re: [P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #42)", "FW: (tocsin #7) x"]
)
def test_tocsins_own_mail_never_opens(subject: str) -> None:
    event = read(halo("New", summary=subject))
    assert event.action is EventAction.OPEN
    assert event.check_filters().is_true is False
    assert "own emails" in str(event.check_filters().reason)


def test_a_subject_that_only_speaks_of_tocsin_opens() -> None:
    assert read(halo("New", summary="Install (Tocsin #latest)")).check_filters().is_true


class TestApi:
    @pytest.mark.parametrize(
        ("payload", "intent"),
        [
            ({"title": "x"}, EventAction.OPEN),
            ({"id": 1, "status": "firing"}, EventAction.OPEN),
            ({"id": 1, "state": "DOWN"}, EventAction.OPEN),
            ({"id": 1, "status": "Resolved"}, EventAction.CLOSE),
            ({"id": 1, "status": "ok"}, EventAction.CLOSE),
            ({"id": 1, "event_action": "resolve"}, EventAction.CLOSE),
            ({"id": 1, "status": "not ok"}, EventAction.OPEN),
            ({"id": 1, "status": "acknowledged"}, EventAction.UPDATE),
        ],
    )
    def test_usual_statuses_are_understood(self, payload: dict[str, object], intent: EventAction) -> None:
        assert read(payload, kind=API).action is intent

    def test_no_id_is_no_failure(self) -> None:
        assert read({"title": "x"}, kind=API).source_id is None


class TestDefinition:
    def test_overrides_one_field_and_keeps_the_others(self) -> None:
        event = read(
            halo("New", note="Mine"), IntegrationDefinition(mapping={"subject": "ticket^note", "client": None})
        )
        assert event.mapped.text("subject") == "Mine"
        assert event.source_id == "7"

    def test_a_key_template_replaces_the_id(self) -> None:
        definition = IntegrationDefinition(dedup_key="<ticket^client_name>/<field:subject>")
        assert read({"ticket": {"client_name": "Acme", "summary": "VPN"}}, definition).dedup_key == "Acme/VPN"

    def test_a_key_template_without_any_value_is_no_id(self) -> None:
        assert isinstance(read_any({"x": 1}, IntegrationDefinition(dedup_key="<ticket^client_name>")), Rejected)

    def test_routes_and_filters_are_evaluated_for_new_alerts(self) -> None:
        definition = IntegrationDefinition(
            filters={"not": {"field": "ticket_type", "operator": "equals", "value": "Project"}},
            routes=[
                {"when": {"field": "client", "operator": "equals", "value": "Globex"}, "during": 4, "priority": "low"}
            ],
        )
        event = read(halo("New", client_name="globex", tickettype={"name": "Project"}), definition)
        assert str(event.check_filters().reason) == 'ticket type "Project" equals Project'
        assert event.choose_route(lambda hours: hours == 4).priority == "low"
        assert event.choose_route(lambda hours: False).index is None

    @pytest.mark.parametrize(
        ("definition", "place"),
        [
            (IntegrationDefinition(mapping={"subject": "a^"}), "mapping.subject"),
            (IntegrationDefinition(rules={"open": {"field": "a", "operator": "is"}}), "rules.open.operator"),
            (IntegrationDefinition(filters={"any": []}), "filters.any"),
            (
                IntegrationDefinition(routes=[{"when": {"field": "a", "operator": "matches", "value": "("}}]),
                "routes[0].when.value",
            ),
            (IntegrationDefinition(dedup_key="<a^>"), "dedup_key"),
            (IntegrationDefinition(mapping={"custom": {"Order": "a^"}}), "mapping.custom.Order"),
        ],
    )
    def test_what_cannot_be_used_is_refused_at_its_place(self, definition: IntegrationDefinition, place: str) -> None:
        with pytest.raises(Rejected) as caught:
            compile_normalizer(HALO, definition)
        assert caught.value.field == place


def test_an_element_with_a_problem_is_that_problem() -> None:
    reader = compile_normalizer(API, IntegrationDefinition())
    _, bad = decode(b'[{"a": 1}, 7]', None, lenient=False).elements
    assert reader.normalize(bad) is bad.problem


def test_notes_of_reading_and_mapping_come_together() -> None:
    (element,) = decode(b'{"ticket_id": 7, "priority": "Sofort",}', None, lenient=True).elements
    event = compile_normalizer(HALO, IntegrationDefinition()).normalize(element)
    assert isinstance(event, NormalizedEvent)
    assert [note.code for note in event.notes] == [
        "json.repaired",
        '{field} "{value}" is not mapped to critical, high, medium or low',
    ]


WORDS = ["VPN", "down", "db1:", "HTTP", "500", "alert", "open", "#", "is", "ok", "host7", "Störung", "2026-11-24", "\n"]


@given(
    st.lists(st.sampled_from(WORDS), max_size=5),
    st.dictionaries(
        st.sampled_from(["title", "message", "host", "severity", "service", "name", "client", "description"]),
        st.sampled_from(["db1", "VPN down", "Disk of db1 is full", "critical", "500"]),
    ),
)
def test_a_plain_subject_is_that_of_the_likely_texts(words: list[str], more: dict[str, str]) -> None:
    reader = compile_normalizer(API, IntegrationDefinition())
    payload = {"id": "7", "status": "open", "subject": " ".join(words), **more}
    mapped = reader.mapping.apply(payload)
    plain, likely = (
        likely_texts.with_texts(mapped, payload, objects, reader.aliased_fields, reader.guesses)
        for objects in (None, collect(payload))
    )
    assert plain == likely


def test_plain_ticket_costs_few_calls() -> None:
    """Every message pays for what is meant for unusual ones, and time is no test on a busy machine."""
    normalizer = compile_normalizer(load_kinds()["haloitsm"], IntegrationDefinition())
    ticket = {"id": 7, "summary": "VPN down", "details": "VPN down for 40 users", "status": {"id": 1, "name": "New"}}
    body = {"event": "new ticket logged", "object_id": 7, "ticket": {**ticket, "client_name": "Acme"}}
    element = Element(body, b"")
    normalizer.normalize(element)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        normalizer.normalize(element)
    finally:
        sys.setprofile(None)
    assert calls < 250
