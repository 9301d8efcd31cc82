"""Problems over time: reported once when confirmed, resolved when they end, and rate limited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from tocsin.core.reasons import as_reason
from tocsin.notify.rules.page_planner import IS_ADMINISTRATOR
from tocsin.operate.self_check import DetectedProblem, ProblemRecord, update_problems

LATE = DetectedProblem("runs_late", as_reason("Escalation is late"), as_reason("It is late."), as_reason("Look."))
STUCK = DetectedProblem("runs_stuck", as_reason("Escalation is stuck"), as_reason("It is stuck."), as_reason("Look."))


@dataclass
class Story:
    """Audits one after the other; remembers what was kept and told."""

    start: datetime
    known: dict[str, ProblemRecord] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def audit(self, second: float, *found: DetectedProblem) -> list[str]:
        """Returns the titles of what is told at that audit."""
        followed = update_problems(self.known, found, self.start + timedelta(seconds=second))
        self.known |= {problem.id: problem for problem in followed.changed}
        return [str(notice.title) for notice in followed.notices]

    def open(self) -> Sequence[str]:
        return [problem.id for problem in self.known.values() if problem.is_open]


@pytest.fixture
def story(now: datetime) -> Story:
    return Story(now)


def test_problem_is_reported_once_when_confirmed_by_next_check(story: Story) -> None:
    assert story.audit(0, LATE) == []
    assert story.open() == ["runs_late"]
    assert story.audit(30, LATE) == ["Tocsin: Escalation is late"]
    assert [story.audit(second, LATE) for second in (60, 90, 7200)] == [[], [], []]


def test_problem_resolved_by_next_check_is_never_reported(story: Story) -> None:
    assert [story.audit(0, LATE), story.audit(30), story.audit(60)] == [[], [], []]
    assert story.open() == []


def test_resolution_of_reported_problem_is_reported_once(story: Story) -> None:
    story.audit(0, LATE)
    story.audit(30, LATE)
    assert story.audit(90) == ["Tocsin: resolved: Escalation is late"]
    assert story.audit(120) == []


def test_flapping_problem_is_reported_once_an_hour(story: Story) -> None:
    titles = [title for second in range(0, 7200, 120) for title in self_healing(story, second)]
    assert titles == ["Tocsin: Escalation is late", "Tocsin: resolved: Escalation is late"] * 2


def self_healing(story: Story, second: int) -> list[str]:
    """Wrong for two audits, then well for two."""
    return [
        *story.audit(second, LATE),
        *story.audit(second + 30, LATE),
        *story.audit(second + 60),
        *story.audit(second + 90),
    ]


def test_problem_recurring_in_quiet_hour_is_reported_afterwards(story: Story) -> None:
    self_healing(story, 0)
    assert [story.audit(second, LATE) for second in (120, 150, 3600)] == [[], [], []]
    assert story.audit(3630, LATE) == ["Tocsin: Escalation is late"]


def test_each_problem_is_reported_separately(story: Story) -> None:
    story.audit(0, LATE)
    assert story.audit(30, LATE, STUCK) == ["Tocsin: Escalation is late"]
    assert story.audit(60, STUCK) == ["Tocsin: Escalation is stuck", "Tocsin: resolved: Escalation is late"]


def test_notice_names_problem_start_time_and_remedy(story: Story) -> None:
    story.audit(0, LATE)
    followed = update_problems(story.known, [LATE], story.start + timedelta(minutes=2))
    (notice,) = followed.notices
    assert str(notice.text) == (
        "It is late.\n\nStarted 2 minutes ago.\n\nWhat to do: Look.\n\nTocsin notifies you when it is resolved."
    )
    assert (notice.about, notice.reason) == ("operate:runs_late", IS_ADMINISTRATOR())
