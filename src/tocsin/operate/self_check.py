"""The periodic self-check that paging works, and the external heartbeat."""

from __future__ import annotations

import logging
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx

from tocsin.alerts import service
from tocsin.alerts.states import ACTIVE
from tocsin.alerts.store import ACTIVE_IDS, join_alert
from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.net.egress import tls_context
from tocsin.core.reasons import NO_REASON, Ago, AlertRef, Param, Reason, Term, Text, joined, reason_from_json, sentence
from tocsin.core.runtime import clock
from tocsin.core.runtime.clock import MIN_REPORTED_ROLLBACK, ClockJump, round_jump
from tocsin.escalation.models import EXHAUSTED_RUNS_SQL
from tocsin.escalation.tasks import STUCK_AFTER
from tocsin.notify import pause
from tocsin.notify.dispatch import send
from tocsin.notify.interfaces import Quota
from tocsin.notify.notices import DailyTest, Notice, daily_tests, queue_notice
from tocsin.notify.providers import health
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.rules.page_planner import IS_ADMINISTRATOR
from tocsin.operate import node_heartbeat, readiness
from tocsin.operate.finding import HealthFinding, limited
from tocsin.operate.node_heartbeat import NodeStatus
from tocsin.people.sql import load_administrators

# ---------- texts


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
# Judges from inputs whether paging works. Pure: `load_inputs` loads them, `SelfCheckRunner` acts on the result.
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
    #: The vendors' quotas that are nearly used up, by provider.
    scarce_quotas: Mapping[str, Quota] = field(default_factory=dict)
    #: The latest daily tests of providers.
    daily_tests: Sequence[DailyTest] = ()
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
        *_scarce_quotas(inputs),
        *_daily_tests(inputs),
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
                "Enter an SMTP server in Settings, or add a provider under Providers. Pages that were kept are then "
                "sent."
            )
            if channel == "email"
            else sentence("Add or enable a provider under Providers. Pages that were kept are then sent."),
        )


def _scarce_quotas(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for name, quota in inputs.scarce_quotas.items():
        yield DetectedProblem(
            f"quota_scarce:{name}",
            sentence("The quota of the provider “{provider}” is nearly used up", provider=name),
            sentence(
                "{count} message of {limit} is left for the provider “{provider}” until {until}. Without any, other "
                "providers and contact methods take over.",
                "{count} messages of {limit} are left for the provider “{provider}” until {until}. Without any, other "
                "providers and contact methods take over.",
                provider=name,
                count=quota.left,
                limit=quota.limit,
                until=quota.resets_at,
            ),
            sentence("Buy more messages from the vendor, or add another provider or contact method."),
            is_warning=True,
        )


def _daily_tests(inputs: SelfCheckInputs) -> Iterator[DetectedProblem]:
    for test in inputs.daily_tests:
        if not test.is_problem(inputs.now):
            continue
        values: dict[str, Param] = {
            "provider": test.provider,
            "channel": Term(CHANNELS[test.channel].label),
            "user": test.username,
        }
        if not test.has_recipient:
            detail = sentence("{user} is no active administrator with a verified phone number.", user=test.username)
        elif test.sent_at is None or test.sent_at < test.due_at:
            detail = sentence("The daily test of “{provider}” by {channel} to {user} was not sent.", **values)
        else:
            detail = sentence(
                "The daily test of “{provider}” by {channel} to {user} was not answered: it is {state}.",
                **values,
                state=Term(str(test.state)),
            )
        yield DetectedProblem(
            f"daily_test:{test.provider}:{test.channel}",
            sentence("The daily test of “{provider}” failed", provider=test.provider),
            joined(detail, test.error, separator=" "),
            sentence(
                "If {user} got nothing, send a test from the provider's page, which shows the error.",
                user=test.username,
            ),
            is_warning=True,
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


# ---------- heartbeat
# The external heartbeat: a ping to a service that raises an alarm when pings stop.


#: For each part of the request.
TIMEOUT = timedelta(seconds=5)

_TIMED_OUT = Text("no answer within {timeout}")
_NOT_CALLED = Text("the request failed ({error})")
STATUS = Text("the response status was {status}")


def ping(url: str) -> Reason:
    """Pings `url`. Returns why that failed, as part of a sentence that never contains the URL; `NO_REASON` on success.

    The URL comes from the environment or from an administrator, so it may be a private address.
    """
    try:
        with httpx.Client(timeout=TIMEOUT.total_seconds(), verify=tls_context(), follow_redirects=True) as client:
            response = client.get(url)
    except httpx.TimeoutException:
        return _TIMED_OUT(timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return _NOT_CALLED(error=type(error).__name__)
    return NO_REASON if response.is_success else STATUS(status=str(response.status_code))


# ---------- inputs
# Loads the inputs of a self-check: a few cheap, indexed queries in the caller's transaction.


#: Alerts listed per problem: as many as a person can work through.
MAX_EXAMPLES = 50

_LIVE = sorted(ACTIVE)


def load_inputs(connection: Connection, now: datetime) -> SelfCheckInputs:
    """The inputs as of `now`."""
    return SelfCheckInputs(
        now=now,
        nodes=node_heartbeat.load_nodes(connection),
        run=_longest_wait(connection, _RUN, {"now": now}),
        page=None if pause.current_pause(connection, now) else _longest_wait(connection, _PAGE, {"now": now}),
        unreached_alerts=unreached(connection, now),
        without_provider=send.unreachable(connection),
        scarce_quotas=health.scarce_quotas(connection, now),
        daily_tests=daily_tests(connection, now),
        message=_longest_wait(connection, _MESSAGE, {"now": now}),
        forgotten_alerts=_count_with_examples(connection, _FORGOTTEN, {}),
        stuck_alerts=_count_with_examples(connection, _STUCK, {"live": _LIVE, "stuck": STUCK_AFTER}),
        lost_deliveries=_count_lost(connection),
        jump=clock.last_jump(connection),
    )


_RUN = """
SELECT alert_id, due_at AS since, '{}'::jsonb AS why FROM escalation_run
WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1
"""

# A retried page is due later, but late since it was first due; a page being sent is not sent yet either. After a pause,
# lateness counts from the pause's end. An alert about which another page was sent is not waiting for its first one. One
# branch per partial index.
_PAGE = """
SELECT alert_id, since, why FROM (
  SELECT d.alert_id, CASE WHEN d.late_since IS NULL THEN '{}' ELSE d.error END AS why, greatest(
           coalesce(d.late_since, d.due_at),
           (SELECT max(least(coalesce(p.ended_at, p.until), %(now)s)) FROM notify_pause p WHERE p.started_at <= %(now)s)
         ) AS since
  FROM (
    SELECT alert_id, error, due_at, late_since FROM notify_delivery
    WHERE status = 'queued' AND is_first AND purpose = 'page'
    UNION ALL
    SELECT alert_id, error, due_at, late_since FROM notify_delivery
    WHERE status = 'sending' AND is_first AND purpose = 'page'
  ) AS d
  WHERE NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page'
                    AND o.status IN ('sent', 'delivered'))
) AS waiting WHERE since <= %(now)s ORDER BY since LIMIT 1
"""

# Starts from the few pages that are late or failed, with one branch per partial index, and from the few runs that have
# paged no one, so little is read in a quiet hour, however many alerts are open. Of a run only pages sent since its
# start count (clocks may differ by two seconds), because an earlier run paged other people. A page that waits for its
# time, for the end of quiet hours, or for the user's hourly limit is due later, and until then nothing is wrong. Pages
# delayed by a pause are late a minute after its end. OFFSET 0 keeps PostgreSQL from reading all deliveries at once.
_UNREACHED = f"""
WITH late AS MATERIALIZED (
  SELECT alert_id FROM notify_delivery WHERE status = 'queued' AND purpose = 'page' AND due_at <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'queued' AND purpose = 'page' AND late_since IS NOT NULL AND late_since <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'sending' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'failed' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
  UNION SELECT alert_id FROM notify_delivery
    WHERE status = 'sandboxed' AND purpose = 'page' AND coalesce(late_since, due_at) <= %(before)s
), without_page AS MATERIALIZED (
  SELECT alert_id, started_at FROM escalation_run r WHERE status <> 'ended' AND mode = 'page'
    AND progress -> 'any_notified' IS DISTINCT FROM 'true'
    AND (progress -> 'is_waiting' = 'true' OR (progress ->> 'last_step_at')::timestamptz <= %(before)s)
  UNION SELECT alert_id, started_at FROM escalation_run r WHERE mode = 'page' AND ({EXHAUSTED_RUNS_SQL})
), candidate AS (
  SELECT alert_id, '-infinity'::timestamptz AS since FROM late
  UNION SELECT alert_id, started_at - interval '2 seconds' FROM without_page w WHERE NOT EXISTS (
    SELECT FROM notify_delivery o WHERE o.alert_id = w.alert_id AND o.purpose = 'page'
    AND o.status IN ('queued', 'sending') AND coalesce(o.late_since, o.due_at) > %(before)s OFFSET 0)
), unreached AS (
  SELECT DISTINCT a.id FROM candidate c {join_alert("c.alert_id")}
  WHERE a.status = 'open' AND NOT a.dry_run AND NOT a.is_test
    AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = a.id AND o.purpose = 'page'
                    AND o.status IN ('sent', 'delivered') AND coalesce(o.sent_at, o.due_at) >= c.since OFFSET 0)
    AND NOT EXISTS (SELECT FROM notify_pause p
                    WHERE p.started_at <= %(now)s AND coalesce(p.ended_at, p.until) > %(before)s)
)
SELECT count(*) AS number, coalesce((array_agg(id ORDER BY id))[1:{MAX_EXAMPLES}], '{{}}') AS some FROM unreached
"""

# An undecided message, or a delayed alert that is due.
_MESSAGE = """
SELECT NULL::bigint AS alert_id, since, '{}'::jsonb AS why FROM (
  (SELECT received_at AS since FROM inbound_inboundmessage WHERE status = 'Pending' ORDER BY id LIMIT 1)
  UNION ALL
  (SELECT due_at FROM inbound_delayedalert WHERE due_at <= %(now)s ORDER BY due_at LIMIT 1)
) AS waiting ORDER BY since LIMIT 1
"""

_FORGOTTEN = f"""
WITH live AS MATERIALIZED ({ACTIVE_IDS})
SELECT a.id FROM live a WHERE NOT EXISTS (
  SELECT FROM escalation_run r WHERE r.alert_id = a.id AND r.status <> 'ended'
  AND (r.due_at IS NOT NULL OR (r.reason <> '{{}}' AND r.status NOT IN ('active', 'paused'))))
ORDER BY a.id LIMIT 1000
"""

_STUCK = f"""
SELECT a.id FROM escalation_run r {join_alert("r.alert_id")}
WHERE r.due_at IS NOT NULL AND r.failures >= %(stuck)s AND a.status = ANY(%(live)s) ORDER BY a.id LIMIT 1000
"""


def _longest_wait(connection: Connection, query: str, parameters: dict[str, Any]) -> LongestWait | None:
    row = database.row(connection, database.literal(query), parameters)
    if row is None:
        return None
    return LongestWait(row["alert_id"], row["since"], reason_from_json(row["why"]))


def unreached(connection: Connection, now: datetime) -> CountWithExamples:
    """Open alerts that have reached no one, oldest first.

    Their pages failed or wait for a retry, or the steps of their run found nobody to page: no one has the role, the
    step waits, or the policy is exhausted. The alerts are not acknowledged, and neither a pause nor a dry run nor a
    test explains it.
    """
    row = database.row(connection, _UNREACHED, {"now": now, "before": now - OVERDUE_AFTER})
    return CountWithExamples(row["number"], tuple(row["some"])) if row else CountWithExamples()


def _count_with_examples(connection: Connection, query: str, parameters: dict[str, Any]) -> CountWithExamples:
    ids = [row["id"] for row in database.rows(connection, database.literal(query), parameters)]
    return CountWithExamples(len(ids), tuple(ids[:MAX_EXAMPLES]))


def _count_lost(connection: Connection) -> int:
    # Leases are set and compared by the database's clock.
    row = database.row(
        connection,
        "SELECT count(*) AS number FROM notify_delivery WHERE status = 'sending' "
        "AND lease_until < clock_timestamp() - %s",
        (OVERDUE_AFTER,),
    )
    return row["number"] if row else 0


# ---------- problems
# Tracks problems over time: since when they exist, and when to notify administrators.
#
# One notice when a problem is confirmed and one when it ends, but at most one per hour for the same problem. Pure,
# except for `load` and `store_problems`.


#: A problem is reported if it still exists after this time, at the next self-check; restarts and storms pass by
#: themselves.
CONFIRM_AFTER = timedelta(seconds=20)

#: The minimum interval between two notices about the same problem, however often it comes and goes.
REPEAT_AFTER = timedelta(hours=1)

#: How long ended problems are kept.
PROBLEM_RETENTION = timedelta(days=7)

_REMEDY = Text("What to do: {remedy}")


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One problem with its history."""

    id: str
    title: Reason
    detail: Reason
    remedy: Reason
    since: datetime
    seen_at: datetime
    ended_at: datetime | None = None
    notified_at: datetime | None = None
    last_notified_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class ProblemUpdate:
    """Rows to write, and notices to send."""

    changed: tuple[ProblemRecord, ...]
    notices: tuple[Notice, ...]


def update_problems(
    known_problems: Mapping[str, ProblemRecord], detected: Sequence[DetectedProblem], now: datetime
) -> ProblemUpdate:
    """Updates the known problems (by id) after a self-check at `now` found these."""
    changed: list[ProblemRecord] = []
    notices: list[Notice] = []
    for detected_problem in detected:
        problem = _merge(known_problems.get(detected_problem.id), detected_problem, now)
        is_muted = problem.last_notified_at is not None and now - problem.last_notified_at < REPEAT_AFTER
        if problem.notified_at is None and now - problem.since >= CONFIRM_AFTER and not is_muted:
            problem = replace(problem, notified_at=now, last_notified_at=now)
            notices.append(_start_notice(problem, now))
        changed.append(problem)
    detected_ids = {detected_problem.id for detected_problem in detected}
    for problem in known_problems.values():
        if problem.is_open and problem.id not in detected_ids:
            changed.append(replace(problem, ended_at=now))
            if problem.notified_at is not None:
                notices.append(_end_notice(problem, now))
    return ProblemUpdate(tuple(changed), tuple(notices))


def _merge(previous: ProblemRecord | None, detected: DetectedProblem, now: datetime) -> ProblemRecord:
    if previous is None or not previous.is_open:
        last_notified_at = previous.last_notified_at if previous else None
        return ProblemRecord(
            detected.id, detected.title, detected.detail, detected.remedy, now, now, last_notified_at=last_notified_at
        )
    return replace(previous, title=detected.title, detail=detected.detail, remedy=detected.remedy, seen_at=now)


def _start_notice(problem: ProblemRecord, now: datetime) -> Notice:
    text = joined(
        problem.detail,
        sentence("Started {ago}.", ago=Ago(now - problem.since)),
        _REMEDY(remedy=problem.remedy),
        sentence("Tocsin notifies you when it is resolved."),
        separator="\n\n",
    )
    title = sentence("Tocsin: {title}", title=problem.title)
    return Notice(title, text, f"operate:{problem.id}", IS_ADMINISTRATOR(), is_urgent=True)


def _end_notice(problem: ProblemRecord, now: datetime) -> Notice:
    text = sentence(
        "Resolved after {duration}. The problem was: {detail}", duration=now - problem.since, detail=problem.detail
    )
    title = sentence("Tocsin: resolved: {title}", title=problem.title)
    return Notice(title, text, f"operate:{problem.id}:over", IS_ADMINISTRATOR())


_REASONS = ("title", "detail", "remedy")
_COLUMNS = ("id", *_REASONS, "since", "seen_at", "ended_at", "notified_at", "last_notified_at")


def load(connection: Connection, *, only_open: bool = False) -> dict[str, ProblemRecord]:
    """The stored problems by id, oldest first."""
    condition = " WHERE ended_at IS NULL" if only_open else ""
    query = database.literal(f"SELECT {', '.join(_COLUMNS)} FROM operate_problem{condition} ORDER BY since, id")
    rows = database.rows(connection, query)
    return {row["id"]: ProblemRecord(**row | {name: reason_from_json(row[name]) for name in _REASONS}) for row in rows}


_UPSERT = (
    f"INSERT INTO operate_problem ({', '.join(_COLUMNS)}) VALUES ({', '.join(['%s'] * len(_COLUMNS))}) "
    f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _COLUMNS[1:])}"
)


def store_problems(connection: Connection, changed: Sequence[ProblemRecord], now: datetime) -> None:
    """Writes changed problems and deletes long-ended ones."""
    if changed:
        with connection.cursor() as cursor:
            cursor.executemany(database.literal(_UPSERT), [astuple(problem) for problem in changed])
    connection.execute("DELETE FROM operate_problem WHERE ended_at < %s", (now - PROBLEM_RETENTION,))


# ---------- runner
# Runs the self-check every 30 seconds on one of the nodes: checks paging, stores and reports problems.
#
# Sends the external heartbeat only while there are no problems.


log = logging.getLogger(__name__)

CHECK_INTERVAL = timedelta(seconds=30)

#: A node skips the self-check if another node ran it within this time.
SKIP_IF_WITHIN = timedelta(seconds=20)


class SelfCheckRunner:
    """The self-check of one worker. `run_once` is a periodic task."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = clock.now,
        heartbeat_url: Callable[[], str | None] = lambda: environment.current().heartbeat_url,
        check_disks: Callable[[], Iterable[HealthFinding]] = readiness.check_database_disks,
        name: str = "",
    ) -> None:
        self._now = now
        self._heartbeat_url = heartbeat_url
        self._check_disks = check_disks
        self._name = name or socket.gethostname()

    def run_once(self) -> bool:
        """Runs the self-check unless another node just did, and sends the heartbeat after the commit if nothing is
        wrong.

        Then releases leaked dedup keys: that fault repairs itself and is not reported.
        """
        with database.transaction() as connection:
            if not _claim(connection, self._name):
                return False
            detected = run_self_check(connection, self._now(), tuple(self._check_disks()))
        # The transaction has committed, which proves that writes work.
        if all(problem.is_warning for problem in detected) and (url := self._heartbeat_url()) is not None:
            self._ping(url)
        for alert_id in service.release_stale_keys(self._now()):
            log.warning("Alert #%s held its key though nobody acts on it any more; it is free now.", alert_id)
        return False

    def _ping(self, url: str) -> None:
        problem = ping(url)
        if problem:
            log.warning("The external heartbeat failed: %s.", problem)
        with database.transaction() as connection:
            connection.execute(
                "UPDATE operate_audit SET heartbeat_problem = %(problem)s, "
                "heartbeat_at = CASE WHEN %(is_ok)s THEN clock_timestamp() ELSE heartbeat_at END WHERE id = 1",
                {"problem": problem, "is_ok": not problem},
            )


def run_self_check(
    connection: Connection, now: datetime, disk_findings: Sequence[HealthFinding] = ()
) -> tuple[DetectedProblem, ...]:
    """Finds and stores problems at `now`, and queues notices to administrators, in the caller's transaction.

    `disk_findings` are shortages on the disks.
    """
    detected = find_problems(replace(load_inputs(connection, now), disk_findings=disk_findings))
    update = update_problems(load(connection), detected, now)
    store_problems(connection, update.changed, now)
    if update.notices:
        administrators = load_administrators(connection)
        for notice in update.notices:
            queue_notice(connection, notice, now, user_ids=administrators)
    if update.changed:
        # Home lists the same problems.
        database.notify(connection, "alerts")
    for problem in detected:
        log.error("%s: %s %s", problem.title, problem.detail, problem.remedy)
    return detected


# A self-check in the future was made before a clock rollback.
_CLAIM = """
UPDATE operate_audit SET checked_at = clock_timestamp(), node = %(node)s
WHERE id IN (SELECT id FROM operate_audit WHERE id = 1
             AND checked_at NOT BETWEEN clock_timestamp() - %(recent)s AND clock_timestamp() + %(recent)s
             FOR NO KEY UPDATE SKIP LOCKED)
"""


def _claim(connection: Connection, node: str) -> bool:
    """Whether this node runs the self-check now; others skip it, also while it is running."""
    connection.execute("INSERT INTO operate_audit (id, checked_at) VALUES (1, 'epoch') ON CONFLICT (id) DO NOTHING")
    return connection.execute(_CLAIM, {"node": node, "recent": SKIP_IF_WITHIN}).rowcount == 1


# ---------- health status
# The installation's health for Home, the System view, `/metrics` and doctor: the last self-check's result.


#: The age at which a self-check counts as stale.
STALE_AFTER = timedelta(minutes=2)

NEVER_CHECKED = Text("Tocsin has not run a self-check yet: no node with the role worker has been running.")


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The known health of the installation."""

    #: The age of the last self-check; None: there was none yet.
    age: timedelta | None
    #: The node that ran it.
    node: str
    #: Its problems, oldest first. Empty, while the self-check is recent: paging works.
    problems: tuple[ProblemRecord, ...]
    #: When the external heartbeat last succeeded, and why the last one failed, if it did.
    heartbeat_at: datetime | None = None
    heartbeat_age: timedelta | None = None
    heartbeat_problem: Reason = NO_REASON

    @property
    def is_recent(self) -> bool:
        return self.age is not None and self.age < STALE_AFTER

    @property
    def silence(self) -> Reason:
        """Says that no self-check is running; empty while it is recent."""
        if self.is_recent:
            return NO_REASON
        if self.age is None:
            return NEVER_CHECKED()
        return sentence(
            "Tocsin ran its last self-check {ago}: no node with the role worker is running.", ago=Ago(self.age)
        )


def read() -> HealthStatus:
    """The current health, using a pooled connection."""
    with database.transaction() as connection:
        return status_from_problems(connection)


def status_from_problems(connection: Connection) -> HealthStatus:
    """The current health."""
    row = database.row(
        connection,
        "SELECT clock_timestamp() - checked_at AS age, node, heartbeat_at, "
        "clock_timestamp() - heartbeat_at AS heartbeat_age, heartbeat_problem FROM operate_audit WHERE id = 1",
    )
    open_problems = tuple(load(connection, only_open=True).values())
    if row is None:
        return HealthStatus(None, "", open_problems)
    heartbeat_problem = reason_from_json(row["heartbeat_problem"])
    return HealthStatus(
        row["age"], row["node"], open_problems, row["heartbeat_at"], row["heartbeat_age"], heartbeat_problem
    )
