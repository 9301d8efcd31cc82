"""Judges from inputs whether paging works. Pure: `inputs` loads them, `runner` acts on the result.

The external heartbeat is sent only while there is no problem, apart from warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.runtime.clock_jump import REPORT_FROM, ClockJump, describe_jump
from tocsin.core.validation import durations
from tocsin.operate.finding import HealthFinding
from tocsin.operate.node_heartbeat import NodeStatus

#: Anything still undone this long after it was due is a problem.
OVERDUE_AFTER = timedelta(seconds=60)

#: How long a clock rollback is reported.
CLOCK_NOTICE_INTERVAL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LongestWait:
    """The alert waiting longest for something, since when that was due, and why, if known."""

    alert_id: int | None
    since: datetime
    why: str = ""


@dataclass(frozen=True, slots=True)
class CountWithExamples:
    """A count, and the ids of the first few."""

    count: int = 0
    some: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SelfCheckInputs:
    """The inputs of a self-check, as of one moment."""

    now: datetime
    nodes: Sequence[NodeStatus] = ()
    #: The oldest run that is due but not decided.
    run: LongestWait | None = None
    #: The oldest first page not sent yet, of an alert about which no page was sent.
    page: LongestWait | None = None
    #: Open alerts about which no page was sent although one was due a minute ago.
    unreached: CountWithExamples = CountWithExamples()
    #: The oldest undecided message.
    message: LongestWait | None = None
    #: Active alerts without a timer and without a reason for that.
    forgotten: CountWithExamples = CountWithExamples()
    #: Alerts whose run failed five times in a row.
    stuck: CountWithExamples = CountWithExamples()
    #: Deliveries whose sender stopped midway at least a minute ago, and that were not requeued.
    lost: int = 0
    #: The last clock jump.
    jump: ClockJump | None = None
    #: Shortages on the disks that Tocsin writes to.
    room: Sequence[HealthFinding] = ()


@dataclass(frozen=True, slots=True)
class DetectedProblem:
    """One problem: an id for deduplicating notices, a title, a description and a remedy."""

    id: str
    title: str
    detail: str
    remedy: str
    #: Paging still works, so the external heartbeat continues.
    is_warning: bool = False


def find_problems(facts: SelfCheckInputs) -> tuple[DetectedProblem, ...]:
    """All problems shown by these inputs. Empty: paging works."""
    return (
        *_loops(facts),
        *_stuck_senders(facts),
        *_run(facts),
        *_page(facts),
        *_unreached(facts),
        *_message(facts),
        *_forgotten(facts),
        *_stuck(facts),
        *_lost(facts),
        *_clock(facts),
        *_room(facts),
    )


def _loops(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    """Periodic tasks that have stopped. Dead nodes are ignored, because others have taken over their work."""
    stopped: dict[str, list[str]] = {}
    for node in facts.nodes:
        for loop in node.loops if node.is_there else ():
            if loop.age >= OVERDUE_AFTER + 2 * loop.every:
                stopped.setdefault(loop.name, []).append(f"{node.name} ({durations.describe(loop.age)} ago)")
    for name, where in sorted(stopped.items()):
        yield DetectedProblem(
            f"loop_stopped:{name}",
            f"The loop “{name}” does not turn",
            f"The loop “{name}” last finished a turn without an error on {', '.join(where)}.",
            "Look into that node's log for what fails, and restart it if it hangs.",
        )


def _stuck_senders(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    """Providers with sends that hang past their deadline."""
    where: dict[str, list[str]] = {}
    number: Counter[str] = Counter()
    for node in facts.nodes:
        for provider, count in node.stuck_senders.items() if node.is_there else ():
            where.setdefault(provider, []).append(node.name)
            number[provider] += count
    for provider, nodes in sorted(where.items()):
        sends = f"{number[provider]} {'send hangs' if number[provider] == 1 else 'sends hang'}"
        yield DetectedProblem(
            f"stuck_sender:{provider}",
            f"The provider “{provider}” hangs",
            f"{sends} in the provider “{provider}” on {', '.join(nodes)}. They count as failed, and other providers "
            "take over; with several of them the provider is not used.",
            "Look at what the provider connects to. Restart that node to end what hangs; if it comes back, report it.",
        )


def _run(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.run is not None and (late := facts.now - facts.run.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "runs_late",
            "Escalation is late",
            f"What was due for alert #{facts.run.alert_id} has not been decided for {durations.describe(late)}.",
            "Look whether a node with the role worker runs and what its log says; page people by hand meanwhile.",
        )


def _page(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.page is not None and (late := facts.now - facts.page.since) >= OVERDUE_AFTER:
        why = f" {facts.page.why}" if facts.page.why else ""
        yield DetectedProblem(
            "pages_late",
            "Pages are late",
            f"The first page about alert #{facts.page.alert_id} should have left {durations.describe(late)} ago.{why}",
            "Look at the providers, and call whoever is on call by hand meanwhile.",
        )


def _unreached(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.unreached.count:
        what, are = _alerts(facts.unreached)
        about = "it" if facts.unreached.count == 1 else "them"
        yield DetectedProblem(
            "alerts_unreached",
            "Alerts have reached nobody",
            f"{what} {are} open, and no page about {about} has left although one was due.",
            "Call whoever is on call by hand. Look at the providers, and at those people's contact methods.",
        )


def _message(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.message is not None and (late := facts.now - facts.message.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "messages_late",
            "Messages wait to be decided",
            f"A message that is stored has not been decided for {durations.describe(late)}; it may open an alert.",
            "Look at the Inbound Log for what is Pending, and into the log of a node with the role worker.",
        )


def _forgotten(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.forgotten.count:
        what, are = _alerts(facts.forgotten)
        yield DetectedProblem(
            "alerts_forgotten",
            "Alerts are forgotten",
            f"{what} {are} open, with no timer that brings it up again and no reason why not.",
            "Press Escalate on it to page somebody. This is a fault of Tocsin's: please report it.",
        )


def _stuck(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.stuck.count:
        what, _ = _alerts(facts.stuck)
        yield DetectedProblem(
            "runs_stuck",
            "Escalation is stuck",
            f"Whom to page about {what[0].lower()}{what[1:]} could not be decided five times in a row.",
            "Page somebody by hand. The alert's page and the log say what fails; saving its policy again may mend it.",
        )


def _lost(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if facts.lost:
        many = facts.lost != 1
        yield DetectedProblem(
            "deliveries_lost",
            "Messages were left in mid-send",
            f"{facts.lost} {'messages were' if many else 'message was'} being sent by a process that ended, and no "
            f"other has taken {'them' if many else 'it'} up.",
            "Look whether a node with the role worker runs, and what its log says.",
        )


def _clock(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    jump = facts.jump
    if jump is None:
        return
    if jump.is_back and timedelta() <= facts.now - jump.at < CLOCK_NOTICE_INTERVAL:
        said = ", and each alert says so" if -jump.by >= REPORT_FROM else ""
        yield DetectedProblem(
            "clock_set_back",
            "The clock was set back",
            f"The clock of the database's machine was set back by {describe_jump(jump.by)}. What waited was brought "
            f"forward by that{said}; what came before has times that are too late by it.",
            "Have that machine follow NTP (`timedatectl set-ntp true`), with its hardware clock in UTC "
            "(`timedatectl set-local-rtc 0`).",
            is_warning=True,
        )
    elif jump.is_doubted(facts.now):
        yield DetectedProblem(
            "clock_ahead",
            "The clock is far ahead of where it was",
            f"The clock of the database's machine is {describe_jump(jump.by)} further than when it was last looked at. "
            "Nothing is removed by its age for a day.",
            "If Tocsin was not switched off for so long, set that machine's clock right before the day is over.",
            is_warning=True,
        )


def _room(facts: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for short in facts.room:
        why = "When it is full nothing can be stored, and nobody is paged."
        yield DetectedProblem(
            short.id, "The disk is nearly full", f"{short.detail} {why}", short.remedy, is_warning=True
        )


def _alerts(several: CountWithExamples) -> tuple[str, str]:
    """Returns ("Alert #4", "is") or ("Alerts #4, #7 and 12 more", "are")."""
    named = [f"#{number}" for number in several.some]
    more = several.count - len(named)
    listed = ", ".join(named) + (f" and {more} more" if more > 0 else "")
    return (f"Alert {listed}", "is") if several.count == 1 else (f"Alerts {listed}", "are")
