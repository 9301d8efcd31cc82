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


#: Bodies that do not say what would be needed: another id in each message and no name that both have, or no name.
NOT_RIGHT = {
    ("datadog-default", "over", "api"),
    ("eventbridge-alarm", "over", "api"),
    ("incident-io-webhook", "open", "api"),
    ("mattermost-alertmanager", "over", "api"),
    ("netlify", "over", "api"),
    ("sensu-go", "over", "api"),
    ("servicenow-incident-in-prtg", "open", "api"),
}


def test_documented_bodies_of_other_products_do_what_they_say() -> None:
    wrong = {(result.template, result.body_name, result.kind): result.problem for result in templates.measure()}
    wrong = {key: problem for key, problem in wrong.items() if problem}
    assert {key: problem for key, problem in wrong.items() if key not in NOT_RIGHT} == {}
    assert wrong.keys() == NOT_RIGHT, "a body that became right leaves the list"
