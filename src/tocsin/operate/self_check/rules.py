"""Judges from inputs whether paging works. Pure: `inputs` loads them, `runner` acts on the result.

The external heartbeat is sent only while there is no problem, apart from warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tocsin.core.runtime.clock_jump import MIN_REPORTED_ROLLBACK, ClockJump, describe_jump
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
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CountWithExamples:
    """A count, and the ids of the first few."""

    count: int = 0
    examples: tuple[int, ...] = ()


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
    unreached_alerts: CountWithExamples = CountWithExamples()
    #: The oldest undecided message.
    message: LongestWait | None = None
    #: Active alerts without a timer and without a reason for that.
    forgotten_alerts: CountWithExamples = CountWithExamples()
    #: Alerts whose run failed five times in a row.
    stuck_alerts: CountWithExamples = CountWithExamples()
    #: Deliveries whose sender stopped midway at least a minute ago, and that were not requeued.
    lost_deliveries: int = 0
    #: The last clock jump.
    jump: ClockJump | None = None
    #: Shortages on the disks that Tocsin writes to.
    disk_findings: Sequence[HealthFinding] = ()


@dataclass(frozen=True, slots=True)
class DetectedProblem:
    """One problem: an id for deduplicating notices, a title, a description and a remedy."""

    id: str
    title: str
    detail: str
    remedy: str
    #: Paging still works, so the external heartbeat continues.
    is_warning: bool = False


def find_problems(inputs: SelfCheckInputs) -> tuple[DetectedProblem, ...]:
    """All problems shown by these inputs. Empty: paging works."""
    return (
        *_loops(inputs),
        *_stuck_senders(inputs),
        *_run(inputs),
        *_page(inputs),
        *_unreached(inputs),
        *_message(inputs),
        *_forgotten(inputs),
        *_stuck(inputs),
        *_lost(inputs),
        *_clock(inputs),
        *_disks(inputs),
    )


def _loops(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    """Periodic tasks that have stopped. Dead nodes are ignored, because others have taken over their work."""
    stopped: dict[str, list[str]] = {}
    for node in inputs.nodes:
        for task in node.tasks if node.is_alive else ():
            if task.age >= OVERDUE_AFTER + 2 * task.interval:
                stopped.setdefault(task.name, []).append(f"{node.name} ({durations.describe(task.age)} ago)")
    for name, nodes in sorted(stopped.items()):
        yield DetectedProblem(
            f"loop_stopped:{name}",
            f"The loop “{name}” does not turn",
            f"The loop “{name}” last finished a turn without an error on {', '.join(nodes)}.",
            "Look into that node's log for what fails, and restart it if it hangs.",
        )


def _stuck_senders(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    """Providers with sends that hang past their deadline."""
    nodes_by_provider: dict[str, list[str]] = {}
    hanging: Counter[str] = Counter()
    for node in inputs.nodes:
        for provider, count in node.stuck_senders.items() if node.is_alive else ():
            nodes_by_provider.setdefault(provider, []).append(node.name)
            hanging[provider] += count
    for provider, nodes in sorted(nodes_by_provider.items()):
        sends_text = f"{hanging[provider]} {'send hangs' if hanging[provider] == 1 else 'sends hang'}"
        yield DetectedProblem(
            f"stuck_sender:{provider}",
            f"The provider “{provider}” hangs",
            f"{sends_text} in the provider “{provider}” on {', '.join(nodes)}. They count as failed, and "
            "other providers "
            "take over; with several of them the provider is not used.",
            "Look at what the provider connects to. Restart that node to end what hangs; if it comes back, report it.",
        )


def _run(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.run is not None and (late := inputs.now - inputs.run.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "runs_late",
            "Escalation is late",
            f"What was due for alert #{inputs.run.alert_id} has not been decided for {durations.describe(late)}.",
            "Look whether a node with the role worker runs and what its log says; page people by hand meanwhile.",
        )


def _page(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.page is not None and (late := inputs.now - inputs.page.since) >= OVERDUE_AFTER:
        reason = f" {inputs.page.reason}" if inputs.page.reason else ""
        yield DetectedProblem(
            "pages_late",
            "Pages are late",
            f"The first page about alert #{inputs.page.alert_id} should have left "
            f"{durations.describe(late)} ago.{reason}",
            "Look at the providers, and call whoever is on call by hand meanwhile.",
        )


def _unreached(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.unreached_alerts.count:
        alerts_text, verb = _describe_alerts(inputs.unreached_alerts)
        pronoun = "it" if inputs.unreached_alerts.count == 1 else "them"
        yield DetectedProblem(
            "alerts_unreached",
            "Alerts have reached nobody",
            f"{alerts_text} {verb} open, and no page about {pronoun} has left although one was due.",
            "Call whoever is on call by hand. Look at the providers, and at those people's contact methods.",
        )


def _message(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.message is not None and (late := inputs.now - inputs.message.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "messages_late",
            "Messages wait to be decided",
            f"A message that is stored has not been decided for {durations.describe(late)}; it may open an alert.",
            "Look at the Inbound Log for what is Pending, and into the log of a node with the role worker.",
        )


def _forgotten(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.forgotten_alerts.count:
        alerts_text, verb = _describe_alerts(inputs.forgotten_alerts)
        yield DetectedProblem(
            "alerts_forgotten",
            "Alerts are forgotten",
            f"{alerts_text} {verb} open, with no timer that brings it up again and no reason why not.",
            "Press Escalate on it to page somebody. This is a fault of Tocsin's: please report it.",
        )


def _stuck(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.stuck_alerts.count:
        alerts_text, _ = _describe_alerts(inputs.stuck_alerts)
        yield DetectedProblem(
            "runs_stuck",
            "Escalation is stuck",
            f"Whom to page about {alerts_text[0].lower()}{alerts_text[1:]} could not be decided five times in a row.",
            "Page somebody by hand. The alert's page and the log say what fails; saving its policy again may mend it.",
        )


def _lost(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.lost_deliveries:
        is_plural = inputs.lost_deliveries != 1
        yield DetectedProblem(
            "deliveries_lost",
            "Messages were left in mid-send",
            f"{inputs.lost_deliveries} {'messages were' if is_plural else 'message was'} being sent by a "
            "process that ended, and no "
            f"other has taken {'them' if is_plural else 'it'} up.",
            "Look whether a node with the role worker runs, and what its log says.",
        )


def _clock(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    jump = inputs.jump
    if jump is None:
        return
    if jump.is_rollback and timedelta() <= inputs.now - jump.at < CLOCK_NOTICE_INTERVAL:
        suffix = ", and each alert says so" if -jump.amount >= MIN_REPORTED_ROLLBACK else ""
        yield DetectedProblem(
            "clock_set_back",
            "The clock was set back",
            f"The clock of the database's machine was set back by {describe_jump(jump.amount)}. What "
            "waited was brought "
            f"forward by that{suffix}; what came before has times that are too late by it.",
            "Have that machine follow NTP (`timedatectl set-ntp true`), with its hardware clock in UTC "
            "(`timedatectl set-local-rtc 0`).",
            is_warning=True,
        )
    elif jump.is_suspect(inputs.now):
        yield DetectedProblem(
            "clock_ahead",
            "The clock is far ahead of where it was",
            f"The clock of the database's machine is {describe_jump(jump.amount)} further than when it was "
            "last looked at. "
            "Nothing is removed by its age for a day.",
            "If Tocsin was not switched off for so long, set that machine's clock right before the day is over.",
            is_warning=True,
        )


def _disks(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for finding in inputs.disk_findings:
        consequence = "When it is full nothing can be stored, and nobody is paged."
        yield DetectedProblem(
            finding.id, "The disk is nearly full", f"{finding.detail} {consequence}", finding.remedy, is_warning=True
        )


def _describe_alerts(sample: CountWithExamples) -> tuple[str, str]:
    """Returns ("Alert #4", "is") or ("Alerts #4, #7 and 12 more", "are")."""
    names = [f"#{alert_id}" for alert_id in sample.examples]
    more_count = sample.count - len(names)
    list_text = ", ".join(names) + (f" and {more_count} more" if more_count > 0 else "")
    return (f"Alert {list_text}", "is") if sample.count == 1 else (f"Alerts {list_text}", "are")
