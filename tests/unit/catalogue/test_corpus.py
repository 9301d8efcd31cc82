"""No form of any sample's message is ignored silently: it opens, closes, or is refused aloud."""

from __future__ import annotations

import pytest

from tests.catalogue_corpus.measure import Outcome, measure


@pytest.mark.parametrize("kind", sorted(measure()))
def test_no_mutation_of_a_sample_is_ignored_silently(kind: str) -> None:
    assert measure()[kind].silent == []


def test_mutations_mostly_end_as_their_sample() -> None:
    outcomes = sum((figures.outcomes for figures in measure().values()), start=measure()["api"].outcomes.__class__())
    assert outcomes[Outcome.RIGHT] > 0.8 * outcomes.total()
    assert outcomes[Outcome.CLOSED] < 0.005 * outcomes.total()
