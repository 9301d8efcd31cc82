"""Judges from inputs whether paging works. Pure: `inputs` loads them, `runner` acts on the result.

The external heartbeat is sent only while there is no problem, apart from warnings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tocsin.core.reasons import NO_REASON, Ago, AlertRef, Param, Reason, Term, joined
from tocsin.core.runtime.clock_jump import MIN_REPORTED_ROLLBACK, ClockJump, round_jump
from tocsin.notify.registry import CHANNELS
from tocsin.operate.finding import HealthFinding, limited
from tocsin.operate.node_heartbeat import NodeStatus
from tocsin.operate.self_check import reasons

#: Anything still undone this long after it was due is a problem.
OVERDUE_AFTER = timedelta(seconds=60)

_MAX_NAMED_USERS = 10

#: How long a clock rollback is reported.
CLOCK_NOTICE_INTERVAL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LongestWait:
    """The alert waiting longest for something, since when that was due, and why, if known."""

    alert_id: int | None
    since: datetime
    reason: Reason = NO_REASON


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
    #: Whom no page reaches because their channels lack a provider: names by channel.
    without_provider: Mapping[str, Sequence[str]] = field(default_factory=dict)
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
    title: Reason
    detail: Reason
    remedy: Reason
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
        *_without_provider(inputs),
        *_message(inputs),
        *_forgotten(inputs),
        *_stuck(inputs),
        *_lost(inputs),
        *_clock(inputs),
        *_disks(inputs),
    )


def _loops(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    """Periodic tasks that have stopped. Dead nodes are ignored, because others have taken over their work."""
    stopped: dict[str, list[Reason]] = {}
    for node in inputs.nodes:
        for task in node.tasks if node.is_alive else ():
            if task.age >= OVERDUE_AFTER + 2 * task.interval:
                stopped.setdefault(task.name, []).append(reasons.NODE_AGO(node=node.name, ago=Ago(task.age)))
    for name, nodes in sorted(stopped.items()):
        yield DetectedProblem(
            f"loop_stopped:{name}",
            reasons.TASK_STOPPED(task=name),
            reasons.TASK_STOPPED_DETAIL(task=name, nodes=tuple(nodes)),
            reasons.TASK_STOPPED_REMEDY(),
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
        yield DetectedProblem(
            f"stuck_sender:{provider}",
            reasons.PROVIDER_HANGS(provider=provider),
            reasons.PROVIDER_HANGS_DETAIL(count=hanging[provider], provider=provider, nodes=tuple(nodes)),
            reasons.PROVIDER_HANGS_REMEDY(),
        )


def _run(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.run is not None and (late := inputs.now - inputs.run.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "runs_late",
            reasons.ESCALATION_LATE(),
            reasons.ESCALATION_LATE_DETAIL(alert=_number(inputs.run.alert_id), duration=late),
            reasons.ESCALATION_LATE_REMEDY(),
        )


def _page(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.page is not None and (late := inputs.now - inputs.page.since) >= OVERDUE_AFTER:
        detail = reasons.PAGES_LATE_DETAIL(alert=_number(inputs.page.alert_id), ago=Ago(late))
        yield DetectedProblem(
            "pages_late",
            reasons.PAGES_LATE(),
            joined(detail, inputs.page.reason, separator=" "),
            reasons.PAGES_LATE_REMEDY(),
        )


def _unreached(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.unreached_alerts.count:
        yield DetectedProblem(
            "alerts_unreached",
            reasons.ALERTS_UNREACHED(),
            reasons.ALERTS_UNREACHED_DETAIL(
                count=inputs.unreached_alerts.count, alerts=_numbers(inputs.unreached_alerts)
            ),
            reasons.ALERTS_UNREACHED_REMEDY(),
        )


def _without_provider(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for channel, names in inputs.without_provider.items():
        label = Term(CHANNELS[channel].label if channel in CHANNELS else channel)
        yield DetectedProblem(
            f"no_provider:{channel}",
            reasons.NO_PROVIDER(channel=label),
            reasons.NO_PROVIDER_DETAIL(channel=label, users=limited(names, _MAX_NAMED_USERS)),
            reasons.NO_PROVIDER_EMAIL_REMEDY() if channel == "email" else reasons.NO_PROVIDER_REMEDY(),
        )


def _message(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.message is not None and (late := inputs.now - inputs.message.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "messages_late",
            reasons.MESSAGES_LATE(),
            reasons.MESSAGES_LATE_DETAIL(duration=late),
            reasons.MESSAGES_LATE_REMEDY(),
        )


def _forgotten(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.forgotten_alerts.count:
        yield DetectedProblem(
            "alerts_forgotten",
            reasons.ALERTS_FORGOTTEN(),
            reasons.ALERTS_FORGOTTEN_DETAIL(
                count=inputs.forgotten_alerts.count, alerts=_numbers(inputs.forgotten_alerts)
            ),
            reasons.ALERTS_FORGOTTEN_REMEDY(),
        )


def _stuck(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.stuck_alerts.count:
        yield DetectedProblem(
            "runs_stuck",
            reasons.ESCALATION_STUCK(),
            reasons.ESCALATION_STUCK_DETAIL(count=inputs.stuck_alerts.count, alerts=_numbers(inputs.stuck_alerts)),
            reasons.ESCALATION_STUCK_REMEDY(),
        )


def _lost(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.lost_deliveries:
        yield DetectedProblem(
            "deliveries_lost",
            reasons.DELIVERIES_LOST(),
            reasons.DELIVERIES_LOST_DETAIL(count=inputs.lost_deliveries),
            reasons.DELIVERIES_LOST_REMEDY(),
        )


def _clock(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    jump = inputs.jump
    if jump is None:
        return
    if jump.is_rollback and timedelta() <= inputs.now - jump.at < CLOCK_NOTICE_INTERVAL:
        detail = (
            reasons.CLOCK_SET_BACK_AND_REPORTED
            if -jump.amount >= MIN_REPORTED_ROLLBACK
            else reasons.CLOCK_SET_BACK_DETAIL
        )
        yield DetectedProblem(
            "clock_set_back",
            reasons.CLOCK_SET_BACK(),
            detail(duration=round_jump(jump.amount)),
            reasons.CLOCK_SET_BACK_REMEDY(),
            is_warning=True,
        )
    elif jump.is_suspect(inputs.now):
        yield DetectedProblem(
            "clock_ahead",
            reasons.CLOCK_AHEAD(),
            reasons.CLOCK_AHEAD_DETAIL(duration=round_jump(jump.amount)),
            reasons.CLOCK_AHEAD_REMEDY(),
            is_warning=True,
        )


def _disks(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for finding in inputs.disk_findings:
        detail = joined(finding.detail, reasons.DISK_FULL_CONSEQUENCE(), separator=" ")
        yield DetectedProblem(finding.id, reasons.DISK_FULL(), detail, finding.remedy, is_warning=True)


def _numbers(sample: CountWithExamples) -> tuple[Param, ...]:
    """The numbers of the first alerts, and how many more there are."""
    return limited([_number(alert_id) for alert_id in sample.examples], len(sample.examples), sample.count)


def _number(alert_id: int | None) -> Reason:
    return NO_REASON if alert_id is None else reasons.ALERT_NUMBER(alert=AlertRef(alert_id))
