"""What a self-check finds: title, detail and remedy of each problem. They are stored with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from tocsin.core.reasons import NO_REASON, Ago, AlertRef, Param, Reason, Term, Text, joined, sentence
from tocsin.core.runtime.clock import MIN_REPORTED_ROLLBACK, ClockJump, round_jump
from tocsin.notify.registry import CHANNELS
from tocsin.operate.finding import HealthFinding, limited
from tocsin.operate.node_heartbeat import NodeStatus

ALERT_NUMBER = Text("#{alert}")


PAGES_LATE_DETAIL = Text("The first page about alert {alert} was due {ago}.")


DELIVERIES_LOST_DETAIL = Text(
    "{count} message was being sent when its process stopped, and has not been retried.",
    "{count} messages were being sent when their process stopped, and have not been retried.",
)

CLOCK_SET_BACK_DETAIL = Text(
    "The database server's clock was set back by {duration}. Pending timers were adjusted. Timestamps "
    "of earlier records are too late by the same amount."
)
CLOCK_SET_BACK_AND_REPORTED = Text(
    "The database server's clock was set back by {duration}. Pending timers were adjusted, as noted on "
    "each alert's timeline. Timestamps of earlier records are too late by the same amount."
)
CLOCK_AHEAD_DETAIL = Text(
    "The database server's clock has jumped ahead by {duration} since the last check. Retention "
    "cleanup is paused for a day."
)


# ---------- rules
# Judges from inputs whether paging works. Pure: `inputs` loads them, `runner` acts on the result.
#
# The external heartbeat is sent only while there is no problem, apart from warnings.


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
                stopped.setdefault(task.name, []).append(sentence("{node} ({ago})", node=node.name, ago=Ago(task.age)))
    for name, nodes in sorted(stopped.items()):
        yield DetectedProblem(
            f"loop_stopped:{name}",
            sentence("The periodic task “{task}” has stopped", task=name),
            sentence("The periodic task “{task}” last succeeded on {nodes}.", task=name, nodes=tuple(nodes)),
            sentence("Check that node's log for the error, and restart the node if it hangs."),
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
            sentence("The provider “{provider}” hangs", provider=provider),
            sentence(
                "{count} send hangs in the provider “{provider}” on {nodes}. It counts as failed, and other "
                "providers take over. "
                "If several sends hang, the provider is not used.",
                "{count} sends hang in the provider “{provider}” on {nodes}. They count as failed, and other "
                "providers take over. "
                "If several sends hang, the provider is not used.",
                count=hanging[provider],
                provider=provider,
                nodes=tuple(nodes),
            ),
            sentence(
                "Check the server that the provider connects to. Restart that node to end the hanging sends. If it "
                "happens again, "
                "report it."
            ),
        )


def _run(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.run is not None and (late := inputs.now - inputs.run.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "runs_late",
            sentence("Escalation is late"),
            sentence(
                "The escalation of alert {alert} has been overdue for {duration}.",
                alert=_number(inputs.run.alert_id),
                duration=late,
            ),
            sentence(
                "Check whether a node with the role worker is running, and check its log. In the meantime, contact "
                "people manually."
            ),
        )


def _page(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.page is not None and (late := inputs.now - inputs.page.since) >= OVERDUE_AFTER:
        detail = PAGES_LATE_DETAIL(alert=_number(inputs.page.alert_id), ago=Ago(late))
        yield DetectedProblem(
            "pages_late",
            sentence("Pages are late"),
            joined(detail, inputs.page.reason, separator=" "),
            sentence("Check the providers. In the meantime, contact the people on call manually."),
        )


def _unreached(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.unreached_alerts.count:
        yield DetectedProblem(
            "alerts_unreached",
            sentence("Alerts reached no one"),
            sentence(
                "{count} alert is open and has reached no one: {alerts}.",
                "{count} alerts are open and have reached no one: {alerts}.",
                count=inputs.unreached_alerts.count,
                alerts=_numbers(inputs.unreached_alerts),
            ),
            sentence(
                "Contact the people on call manually. Each alert's timeline says why: no one has the role that the "
                "policy pages, "
                "or a provider or contact method fails."
            ),
        )


def _without_provider(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for channel, names in inputs.without_provider.items():
        label = Term(CHANNELS[channel].label if channel in CHANNELS else channel)
        yield DetectedProblem(
            f"no_provider:{channel}",
            sentence("No provider for {channel}", channel=label),
            sentence(
                "{channel} has no provider. Pages for {users} are kept in the sandbox and reach no one.",
                channel=label,
                users=limited(names, _MAX_NAMED_USERS),
            ),
            sentence(
                "Set TOCSIN_SMTP_URL on every node, or add a provider under Providers. Pages that were kept are "
                "then sent."
            )
            if channel == "email"
            else sentence("Add or enable a provider under Providers. Pages that were kept are then sent."),
        )


def _message(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.message is not None and (late := inputs.now - inputs.message.since) >= OVERDUE_AFTER:
        yield DetectedProblem(
            "messages_late",
            sentence("Inbound messages are not processed"),
            sentence("A message has been pending for {duration}. It may trigger an alert.", duration=late),
            sentence("Check the Inbound Log for pending messages, and the log of the worker nodes."),
        )


def _forgotten(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.forgotten_alerts.count:
        yield DetectedProblem(
            "alerts_forgotten",
            sentence("Alerts without a scheduled action"),
            sentence(
                "Alert {alerts} is open but has no scheduled action.",
                "Alerts {alerts} are open but have no scheduled action.",
                count=inputs.forgotten_alerts.count,
                alerts=_numbers(inputs.forgotten_alerts),
            ),
            sentence("Press “Escalate now” on it to page someone. This is a bug in Tocsin: please report it."),
        )


def _stuck(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.stuck_alerts.count:
        yield DetectedProblem(
            "runs_stuck",
            sentence("Escalation is stuck"),
            sentence(
                "The escalation of alert {alerts} failed five times in a row.",
                "The escalation of alerts {alerts} failed five times in a row.",
                count=inputs.stuck_alerts.count,
                alerts=_numbers(inputs.stuck_alerts),
            ),
            sentence(
                "Contact someone manually. The alert and the log show the error. Saving its policy again may fix it."
            ),
        )


def _lost(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    if inputs.lost_deliveries:
        yield DetectedProblem(
            "deliveries_lost",
            sentence("Sends were interrupted"),
            DELIVERIES_LOST_DETAIL(count=inputs.lost_deliveries),
            sentence("Check whether a node with the role worker is running, and check its log."),
        )


def _clock(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    jump = inputs.jump
    if jump is None:
        return
    if jump.is_rollback and timedelta() <= inputs.now - jump.at < CLOCK_NOTICE_INTERVAL:
        detail = CLOCK_SET_BACK_AND_REPORTED if -jump.amount >= MIN_REPORTED_ROLLBACK else CLOCK_SET_BACK_DETAIL
        yield DetectedProblem(
            "clock_set_back",
            sentence("The clock was set back"),
            detail(duration=round_jump(jump.amount)),
            sentence(
                "Enable NTP on that server (`timedatectl set-ntp true`), and keep its hardware clock in UTC "
                "(`timedatectl set-local-rtc 0`)."
            ),
            is_warning=True,
        )
    elif jump.is_suspect(inputs.now):
        yield DetectedProblem(
            "clock_ahead",
            sentence("The clock jumped far ahead"),
            CLOCK_AHEAD_DETAIL(duration=round_jump(jump.amount)),
            sentence("Unless Tocsin was stopped for that long, fix that server's clock within a day."),
            is_warning=True,
        )


def _disks(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for finding in inputs.disk_findings:
        detail = joined(
            finding.detail, sentence("When it is full, nothing can be stored and no one is paged."), separator=" "
        )
        yield DetectedProblem(finding.id, sentence("The disk is nearly full"), detail, finding.remedy, is_warning=True)


def _numbers(sample: CountWithExamples) -> tuple[Param, ...]:
    """The numbers of the first alerts, and how many more there are."""
    return limited([_number(alert_id) for alert_id in sample.examples], len(sample.examples), sample.count)


def _number(alert_id: int | None) -> Reason:
    return NO_REASON if alert_id is None else ALERT_NUMBER(alert=AlertRef(alert_id))
