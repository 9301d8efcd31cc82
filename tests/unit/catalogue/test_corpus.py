"""No form of any sample's message is ignored silently: it opens, closes, or is refused aloud."""

from __future__ import annotations

import json

import pytest

from tests.catalogue_corpus import templates, ticket_variants
from tests.catalogue_corpus.halo_variants import CLOSE, OPEN, UPDATE, VARIANTS, Variant
from tests.catalogue_corpus.measure import Outcome, figures_of, measure, measured_kinds
from tocsin.catalogue.kinds import IntegrationKind, load_kinds
from tocsin.inbound.config.normalizer import IntegrationDefinition, NormalizedEvent, compile_normalizer
from tocsin.inbound.config.rules import EventAction
from tocsin.inbound.parsing.decode import elements_of

_ACTIONS = {EventAction.CANCEL: CLOSE, EventAction.NONE: UPDATE}


@pytest.mark.parametrize("kind", sorted(measured_kinds()))
def test_no_mutation_of_a_sample_is_ignored_silently(kind: str) -> None:
    assert figures_of(kind).silent == []


def test_mutations_mostly_end_as_their_sample() -> None:
    outcomes = sum((figures.outcomes for figures in measure().values()), start=measure()["api"].outcomes.__class__())
    assert outcomes[Outcome.RIGHT] > 0.8 * outcomes.total()
    assert outcomes[Outcome.CLOSED] < 0.005 * outcomes.total()


#: Bodies whose status each tool means differently (a number, "off", "MASTER", "ETHERNET"), whose failure and recovery
#: have no id (or another one in each) and no name in common, whose failure has no status, so that nothing says that
#: another message ends it, and whose subject names the wrong thing.
NOT_RIGHT = {
    ("aspnet-healthchecks-ui", "over", "api"),
    ("aws-backup-job", "open", "api"),
    ("aws-rds-event-sns", "open", "api"),
    ("burrow", "open", "api"),
    ("cert-spotter", "open", "api"),
    ("comet-backup", "open", "api"),
    ("control-m", "over", "api"),
    ("cronicle-2", "over", "api"),
    ("disruptive-technologies", "over", "api"),
    ("hertzbeat-2", "over", "api"),
    ("jamf-pro", "open", "api"),
    ("keepalived-notify", "over", "api"),
    ("ntopng", "open", "api"),
    ("parseable", "over", "api"),
    ("sap-alert-notification", "over", "api"),
    ("suptask", "open", "api"),
    ("uptime-com-2", "over", "api"),
    ("zenduty-events", "open", "api"),
}

#: The share of held-out bodies that is right at least.
HELD_OUT_SHARE = 0.9
#: The share of made-up bodies that is right at least.
MADE_UP_SHARE = 0.95


def test_documented_bodies_of_other_products_do_what_they_say() -> None:
    results = templates.measure(templates.WORKED_ON)
    wrong = {(result.template, result.body_name, result.kind): result.problem for result in results if result.problem}
    assert {key: problem for key, problem in wrong.items() if key not in NOT_RIGHT} == {}
    assert wrong.keys() == NOT_RIGHT, "a body that became right leaves the list"


def test_most_held_out_bodies_do_what_they_say() -> None:
    results = templates.measure(templates.HELD_OUT)
    assert sum(not result.problem for result in results) >= HELD_OUT_SHARE * len(results)


def test_most_made_up_bodies_do_what_they_say() -> None:
    results = templates.measure(templates.MADE_UP)
    assert sum(not result.problem for result in results) >= MADE_UP_SHARE * len(results)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_any_form_of_a_halo_ticket_does_what_it_says(variant: Variant) -> None:
    normalizer = compile_normalizer(load_kinds()["haloitsm"], IntegrationDefinition(settings=variant.settings))
    elements = elements_of(normalizer.kind, variant.raw, variant.content_type).elements
    events = [event for one in elements if isinstance(event := normalizer.normalize(one), NormalizedEvent)]
    assert [(_ACTIONS.get(event.action, str(event.action)), event.source_id) for event in events] == [
        (action, ticket) for action, ticket, _ in variant.expected
    ]
    for event, (_, _, subject) in zip(events, variant.expected, strict=True):
        assert subject in (event.mapped.text("subject") or "")


TICKET_KINDS = [kind for kind in load_kinds().values() if kind.assigns_source_agent and not kind.same_as]


@pytest.mark.parametrize("name", ticket_variants.VARIANTS)
@pytest.mark.parametrize("kind", TICKET_KINDS, ids=lambda kind: kind.name)
def test_no_service_desks_new_ticket_is_swallowed(kind: IntegrationKind, name: str) -> None:
    body, action = ticket_variants.VARIANTS[name]
    normalizer = compile_normalizer(kind, IntegrationDefinition())
    (element,) = elements_of(kind, json.dumps(body).encode(), "application/json").elements
    event = normalizer.normalize(element)
    assert isinstance(event, NormalizedEvent)
    assert _ACTIONS.get(event.action, str(event.action)) == action
    assert ticket_variants.NUMBER in (event.source_id or "")
    if action == OPEN:
        assert ticket_variants.SUBJECT in (event.mapped.text("subject") or "")


@pytest.mark.parametrize("kind", TICKET_KINDS, ids=lambda kind: kind.name)
def test_list_of_tickets_is_a_message_each(kind: IntegrationKind) -> None:
    body = {"tickets": [{"id": 9003, "subject": "Core switch down"}, {"id": 9004, "subject": "UPS on battery"}]}
    normalizer = compile_normalizer(kind, IntegrationDefinition())
    elements = elements_of(kind, json.dumps(body).encode(), "application/json").elements
    events = [event for one in elements if isinstance(event := normalizer.normalize(one), NormalizedEvent)]
    assert [(event.action, event.source_id, event.is_understood) for event in events] == [
        (EventAction.OPEN, "9003", False),
        (EventAction.OPEN, "9004", False),
    ]


def test_notices_open_nothing_and_everyday_events_are_low() -> None:
    results = [result for result in templates.measure(templates.MADE_UP) if result.body_name in {"news", "daily"}]
    assert len(results) > 60
    assert [result for result in results if result.problem] == []
