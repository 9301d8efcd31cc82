"""The figures of the reports, against a plain computation over random alerts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest

from tests.support.ingest import make_integration
from tests.support.people import make_group, make_user
from tests.support.variants import first
from tocsin.alerts.models import Alert, AlertEvent
from tocsin.alerts.states import ACTIVE, AlertStatus, EventKind, Priority
from tocsin.core.db import database as store
from tocsin.core.reasons import as_reason
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.inbound.models import Integration
from tocsin.people.models import Group, User
from tocsin.reports import alert_reports
from tocsin.reports.alert_reports import DurationStats, NoiseBy, NoisySource, SlaCounts
from tocsin.reports.counted_alerts import AlertFilter, Bucket, GroupBy, Period
from tocsin.workflows.definition import SlaMoment
from tocsin.workflows.run import run_store

ZONE = ZoneInfo("Europe/Zurich")
_CLIENTS = ("Acme", "Globex", "")
_SUBJECTS = ("Disk 1 full", "Disk 2 full", "VPN down")


@dataclass
class Ground:
    """What the random alerts refer to."""

    integrations: Sequence[Integration]
    users: Sequence[User]
    groups: Sequence[Group]
    versions: Sequence[PolicyVersion]


@dataclass
class Fact:
    """One random alert, as the plain computation sees it."""

    alert: Alert
    #: Those that the first escalation notified, and those of all escalations.
    groups: Sequence[Group]
    notified: list[Group] = field(default_factory=list)
    #: The time and user of the first acknowledgement or assignment.
    responses: list[tuple[datetime, str]] = field(default_factory=list)
    assigned: list[datetime] = field(default_factory=list)
    closed_by_source: bool = False

    @property
    def responded_at(self) -> datetime | None:
        return min(self.responses)[0] if self.responses else None


@pytest.fixture
def ground(database: str, now: datetime) -> Ground:
    policy = Policy.objects.create(name="Targets")
    versions = [
        PolicyVersion.objects.create(policy=policy, number=number, definition=definition, created_at=now)
        for number, definition in enumerate(
            ({}, {"sla": {"respond_by": "30m", "fix_by": "4h"}}, {"sla": {"fix_by": "2h"}})
        )
    ]
    return Ground(
        [make_integration("Zabbix", "zabbix"), make_integration("Halo")],
        [make_user(name, now) for name in ("alice", "bob")],
        [make_group(name, now) for name in ("Desk", "Net")],
        versions,
    )


def random_facts(random: Random, ground: Ground, now: datetime, number: int = 150) -> list[Fact]:
    """Random alerts of the last 40 days, some of which no report counts."""
    return [_random_fact(random, ground, now) for _ in range(number)]


def _random_fact(random: Random, ground: Ground, now: datetime) -> Fact:
    opened_at = now - timedelta(seconds=random.randrange(40 * 86_400))

    def later(most: int = 8 * 3_600) -> datetime:
        return opened_at + timedelta(seconds=random.randrange(1, most))

    status = random.choice(list(AlertStatus))
    closed_at = later(random.choice((400, 8 * 3_600))) if status not in ACTIVE else None
    parent = None
    if status is AlertStatus.MERGED:
        parent = Alert.objects.create(subject="parent", opened_at=opened_at, last_message_at=opened_at, is_test=True)
    custom = {
        moment: text
        for moment in ("respond_by", "fix_by")
        if (text := random.choice((None, "", "soon", "2026-02-30", _text(random, later())))) is not None
    }
    alert = Alert.objects.create(
        subject=random.choice(_SUBJECTS), client=random.choice(_CLIENTS), source=random.choice(("a", "b")),
        priority=random.choice(list(Priority)), integration=random.choice((*ground.integrations, None)),
        opened_at=opened_at, last_message_at=opened_at, status=status, closed_at=closed_at, merged_into=parent,
        is_test=random.random() < 0.1, dry_run=random.random() < 0.1, custom=custom,
    )  # fmt: skip
    groups = random.sample(ground.groups, random.randrange(3))
    fact = Fact(alert, groups)
    if random.random() < 0.8:
        for run_groups in (groups, random.sample(ground.groups, random.randrange(3))):
            fact.notified += run_groups
            version = random.choice((*ground.versions, None))
            EscalationRun.objects.create(
                alert=alert, status="ended", mode="page", started_at=opened_at, version=version,
                recipient_groups=[group.pk for group in run_groups],
            )  # fmt: skip
    else:
        fact.groups = ()
    for _ in range(random.choice((0, 0, 1, 2))):
        at, user = later(), random.choice(ground.users)
        kind = random.choice((EventKind.ACKNOWLEDGED, EventKind.ASSIGNED))
        data = {"user_id": user.pk, "name": user.username} if kind is EventKind.ASSIGNED else {}
        actor = random.choice(ground.users) if kind is EventKind.ASSIGNED else user
        AlertEvent.objects.create(
            alert=alert, at=at, kind=kind, actor=actor, actor_name=actor.username, data=data, reason=as_reason("so")
        )
        fact.responses.append((at, user.username))
        if kind is EventKind.ASSIGNED:
            fact.assigned.append(at)
    if status is AlertStatus.CLOSED and closed_at is not None:
        fact.closed_by_source = random.random() < 0.5
        actor_kind = "integration" if fact.closed_by_source else "user"
        AlertEvent.objects.create(
            alert=alert, at=closed_at, kind=EventKind.CLOSED, actor_kind=actor_kind, reason=as_reason("so")
        )
    return fact


def _text(random: Random, at: datetime) -> str:
    """A date as ticket systems write it."""
    match random.randrange(5):
        case 0:
            return at.isoformat()
        case 1:
            return at.astimezone(ZONE).isoformat()
        case 2:
            return f"{at:%Y-%m-%dT%H:%M:%S}.270000Z"
        case 3:
            return f" {at:%Y-%m-%d %H:%M}"
        case _:
            return f"{at:%Y-%m-%d}"


def counted(facts: Iterable[Fact], period: Period, keep: Callable[[Fact], bool] = lambda fact: True) -> list[Fact]:
    return [
        fact
        for fact in facts
        if period.since <= fact.alert.opened_at < period.until
        and not (fact.alert.is_test or fact.alert.dry_run or fact.alert.merged_into_id)
        and keep(fact)
    ]


def keys(fact: Fact, by: GroupBy) -> Sequence[str]:
    match by:
        case GroupBy.PERSON:
            return [min(fact.responses)[1]] if fact.responses else [""]
        case GroupBy.GROUP:
            return [group.name for group in fact.groups] or [""]
        case GroupBy.CLIENT:
            return [fact.alert.client]
        case GroupBy.INTEGRATION:
            return [fact.alert.integration.name if fact.alert.integration else ""]
        case GroupBy.PRIORITY:
            return [fact.alert.priority]
        case GroupBy.SOURCE:
            return [fact.alert.source]
        case GroupBy.HOUR:
            return [f"{fact.alert.opened_at.astimezone(ZONE):%H}"]


def bucket_of(fact: Fact, bucket: Bucket) -> str:
    day = fact.alert.opened_at.astimezone(ZONE).date()
    match bucket:
        case Bucket.DAY:
            return day.isoformat()
        case Bucket.WEEK:
            return (day - timedelta(days=day.weekday())).isoformat()
        case Bucket.MONTH:
            return day.replace(day=1).isoformat()


def duration_stats(spans: Iterable[timedelta | None]) -> DurationStats:
    times = sorted(span for span in spans if span is not None)

    def percentile(fraction: float) -> timedelta | None:
        if not times:
            return None
        place = fraction * (len(times) - 1)
        low = times[int(place)]
        return low + (times[min(int(place) + 1, len(times) - 1)] - low) * (place - int(place))

    return DurationStats(len(times), percentile(0.5), percentile(0.9))


def expect_times(found: alert_reports.ResponseStats, facts: Sequence[Fact]) -> None:
    expected = {
        "acknowledged": [fact.responded_at and fact.responded_at - fact.alert.opened_at for fact in facts],
        "assigned": [min(fact.assigned) - fact.alert.opened_at for fact in facts if fact.assigned],
        "closed": [
            fact.alert.closed_at - fact.alert.opened_at
            for fact in facts
            if fact.alert.status == AlertStatus.CLOSED and fact.alert.closed_at
        ],
    }
    for name, spans in expected.items():
        stats, wanted = getattr(found, name), duration_stats(spans)
        assert stats.count == wanted.count
        for one, other in ((stats.p50, wanted.p50), (stats.p90, wanted.p90)):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert abs(one - other) < timedelta(milliseconds=1)


@pytest.mark.parametrize("by", first(2, GroupBy))
def test_response_times_equal_a_plain_computation(ground: Ground, now: datetime, by: GroupBy) -> None:
    random = Random(by)
    facts = random_facts(random, ground, now)
    period, bucket = Period.last_days(20, now, ZONE), random.choice(list(Bucket))
    with store.transaction() as connection:
        report = alert_reports.load_response_times(connection, period, by, bucket)
    inside = counted(facts, period)
    assert report.total.alerts == len(inside) > 20
    expect_times(report.total.stats, inside)
    before = counted(facts, period.before())
    assert report.before.alerts == len(before)
    expect_times(report.before.stats, before)
    assert sum(row.alerts for row in report.trend) == len(inside)
    for row in report.trend:
        expect_times(row.stats, [fact for fact in inside if bucket_of(fact, bucket) == row.key])
    assert {row.key for row in report.rows if row.alerts} == {key for fact in inside for key in keys(fact, by)}
    for row in report.rows:
        expect_times(row.stats, [fact for fact in inside if row.key in keys(fact, by)])


def test_filters_narrow_every_report(ground: Ground, now: datetime) -> None:
    facts = random_facts(Random(3), ground, now)
    period = Period.last_days(30, now, ZONE)
    halo, net = ground.integrations[1], ground.groups[1]
    filters: list[tuple[AlertFilter, Callable[[Fact], bool]]] = [
        (AlertFilter(client="aCME"), lambda fact: fact.alert.client == "Acme"),
        (AlertFilter(priority=Priority.LOW), lambda fact: fact.alert.priority == "low"),
        (AlertFilter(integration_id=halo.pk), lambda fact: fact.alert.integration_id == halo.pk),
        (AlertFilter(group_id=net.pk), lambda fact: net in fact.notified),
        (AlertFilter(net.pk, "acme", halo.pk, Priority.HIGH),
         lambda fact: net in fact.notified and (fact.alert.client, fact.alert.integration_id, fact.alert.priority)
         == ("Acme", halo.pk, "high")),
    ]  # fmt: skip
    for chosen, keep in filters:
        expected = len(counted(facts, period, keep))
        with store.transaction() as connection:
            times = alert_reports.load_response_times(connection, period, GroupBy.CLIENT, Bucket.WEEK, chosen)
            noisy = alert_reports.load_noise(connection, period, NoiseBy.SUBJECT, chosen)
        assert (times.total.alerts, noisy.alerts) == (expected, expected)


def outcome(due: datetime | None, met: datetime | None, now: datetime) -> str | None:
    if due is None:
        return None
    if met is not None:
        return "kept" if met <= due else "breached"
    return "breached" if due <= now else "pending"


def sla_counts(outcomes: Iterable[str | None]) -> SlaCounts:
    counts = Counter(outcomes)
    return SlaCounts(counts["kept"], counts["breached"], counts["pending"])


@pytest.mark.parametrize("by", first(2, [GroupBy.PERSON, GroupBy.GROUP, GroupBy.CLIENT, GroupBy.PRIORITY]))
def test_sla_equals_a_plain_computation(ground: Ground, now: datetime, by: GroupBy) -> None:
    facts = random_facts(Random(by), ground, now)
    period = Period.last_days(20, now, ZONE)
    inside = counted(facts, period)
    with store.transaction() as connection:
        loaded = alert_reports.load_sla(connection, period, by, Bucket.WEEK, now=now, max_breaches=1_000)
        report = loaded.figures
        breaches = alert_reports.load_breaches(connection, period, now=now, limit=1_000)
        moments = run_store.load_sla_moments(connection, [fact.alert.pk for fact in inside])
    outcomes: dict[int, tuple[str | None, str | None]] = {}
    for fact in inside:
        due = moments.get(fact.alert.pk, {})
        ends = [at for at in (fact.responded_at, fact.alert.closed_at) if at is not None]
        judged = (
            outcome(due.get(SlaMoment.RESPOND_BY), min(ends, default=None), now),
            outcome(due.get(SlaMoment.FIX_BY), fact.alert.closed_at, now),
        )
        if judged != (None, None):
            outcomes[fact.alert.pk] = judged
    with_sla = [fact for fact in inside if fact.alert.pk in outcomes]

    def expect(row: alert_reports.SlaStats, chosen: Iterable[Fact]) -> None:
        pairs = [outcomes[fact.alert.pk] for fact in chosen]
        assert row == alert_reports.SlaStats(*(sla_counts(pair[place] for pair in pairs) for place in (0, 1)))

    assert list(loaded.breaches) == breaches
    assert report.total.alerts == len(with_sla) > 20
    expect(report.total.stats, with_sla)
    for row in report.rows:
        expect(row.stats, [fact for fact in with_sla if row.key in keys(fact, by)])
    for row in report.trend:
        expect(row.stats, [fact for fact in with_sla if bucket_of(fact, Bucket.WEEK) == row.key])
    assert sorted((one.alert_id, one.moment) for one in breaches) == sorted(
        (number, moment)
        for number, pair in outcomes.items()
        for moment, result in zip((SlaMoment.RESPOND_BY, SlaMoment.FIX_BY), pair, strict=True)
        if result == "breached"
    )
    assert [one.due_at for one in breaches] == sorted((one.due_at for one in breaches), reverse=True)
    assert all(one.due_at == moments[one.alert_id][one.moment] for one in breaches)


@pytest.mark.parametrize("by", first(2, NoiseBy))
def test_noise_equals_a_plain_computation(ground: Ground, now: datetime, by: NoiseBy) -> None:
    facts = random_facts(Random(by), ground, now)
    period = Period.last_days(30, now, ZONE)
    with store.transaction() as connection:
        report = alert_reports.load_noise(connection, period, by)
    inside = counted(facts, period)
    assert report.alerts == len(inside)
    expected: dict[tuple[int | None, str], list[Fact]] = {}
    for fact in inside:
        key = {NoiseBy.SUBJECT: re.sub(r"\d+", "#", fact.alert.subject), NoiseBy.CLIENT: fact.alert.client}.get(by, "")
        expected.setdefault((fact.alert.integration_id, key), []).append(fact)
    assert {(one.integration_id, one.key) for one in report.sources} == expected.keys()
    assert [one.alerts for one in report.sources] == sorted((one.alerts for one in report.sources), reverse=True)
    for source in report.sources:
        alerts = expected[source.integration_id, source.key]
        assert (source.alerts, source.acknowledged, source.auto_closed) == (
            len(alerts), sum(1 for fact in alerts if fact.responses), sum(1 for fact in alerts if _is_auto_closed(fact))
        )  # fmt: skip
        assert source.has_one_subject == (len({fact.alert.subject for fact in alerts}) == 1)
        assert source.has_one_client == (len({fact.alert.client for fact in alerts}) == 1)


def _is_auto_closed(fact: Fact) -> bool:
    alert = fact.alert
    return (
        fact.closed_by_source
        and not fact.responses
        and alert.closed_at is not None
        and alert.closed_at - alert.opened_at < alert_reports.AUTO_CLOSE_WINDOW
    )


@pytest.mark.parametrize(
    ("has_one_subject", "has_one_client", "grouping"),
    [
        (True, True, "<field:subject>"),
        (True, False, "<field:client> <field:subject>"),
        (False, True, "<field:client>"),
        (False, False, "<field:client>"),
    ],
)
def test_grouping_joins_what_is_alike(has_one_subject: bool, has_one_client: bool, grouping: str) -> None:
    assert NoisySource(1, "Halo", "", 2, 0, 0, has_one_subject, has_one_client).grouping == grouping


def test_date_that_does_not_exist_is_no_due_time(ground: Ground, now: datetime) -> None:
    texts = (
        "2026-02-29",
        "2024-02-29",
        "2026-04-31",
        "1900-01-01T00:00:00",
        "2026-11-24T25:00",
        "24.11.2026",
        "0000-01-01",
        "9999-12-31",
    )
    for text in texts:
        Alert.objects.create(subject=text, opened_at=now, last_message_at=now, custom={"respond_by": text})
    period = Period(now - timedelta(days=1), now + timedelta(days=1), ZONE)
    with store.transaction() as connection:
        report = alert_reports.load_sla(connection, period, GroupBy.CLIENT, Bucket.DAY, now=now).figures
        breaches = alert_reports.load_breaches(connection, period, now=now, limit=10)
    assert (report.total.alerts, [one.subject for one in breaches]) == (2, ["2024-02-29"])


def test_due_time_is_read_as_in_the_alert_list(ground: Ground, now: datetime) -> None:
    day = now.astimezone(ZONE).date() - timedelta(days=1)
    ends = (
        "",
        "T09:00",
        " 09:00:05",
        "T09:00:05.123456",
        "T09:00Z",
        "T09:00:05+01:00",
        "T09:00:05.5-0330",
        "T09:00+0100",
    )
    texts = {f"{day}{end}" for end in ends}
    for text in texts:
        Alert.objects.create(subject=text, opened_at=now, last_message_at=now, custom={"respond_by": text})
    period = Period(now - timedelta(days=1), now + timedelta(days=1), ZONE)
    with store.transaction() as connection:
        breaches = alert_reports.load_breaches(connection, period, now=now, limit=100)
        moments = run_store.load_sla_moments(connection, [one.alert_id for one in breaches])
    assert {one.subject for one in breaches} == texts
    assert all(one.due_at == moments[one.alert_id][SlaMoment.RESPOND_BY] for one in breaches)
