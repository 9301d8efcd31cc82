"""No form of any sample's message is ignored silently: it opens, closes, or is refused aloud."""

from __future__ import annotations

import pytest

from tests.catalogue_corpus import templates
from tests.catalogue_corpus.measure import Outcome, figures_of, measure, measured_kinds


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
    ("alerta-api", "open", "api"),
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


def test_notices_open_nothing_and_everyday_events_are_low() -> None:
    results = [result for result in templates.measure(templates.MADE_UP) if result.body_name in {"news", "daily"}]
    assert len(results) > 60
    assert [result for result in results if result.problem] == []
