"""Current problems for Home, each with the view that resolves it. Reads only; `tocsin doctor` checks more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

from django.core.cache import caches
from django.db.models import OuterRef, Subquery
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from psycopg.rows import DictRow

from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.ids import first_uuid7
from tocsin.core.locale_format import local_duration
from tocsin.inbound.admin import observed_statuses
from tocsin.inbound.config import registry
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.oncall.calculation import coverage_checks
from tocsin.oncall.calculation.coverage_checks import CoverageFinding, CoverageFindingKind
from tocsin.operate import health_status
from tocsin.operate.coverage import coverage
from tocsin.web.home import mailbox_warnings, provider_warnings
from tocsin.web.oncall.schedules.coverage_warnings import describe_finding
from tocsin.web.outbound import health_warnings as outbound_troubles
from tocsin.web.ui.capped_counts import DAY
from tocsin.workflows.views import health as workflows

#: Maximum number of integrations checked one by one.
MAX_INTEGRATIONS_CHECKED = 20

#: Horizon for coverage gaps, and maximum number of gaps per group.
FORTNIGHT = timedelta(days=14)
MAX_GAPS_PER_GROUP = 3

#: An integration is "usually active" if it received messages on each of this many days before its last message; only
#: then is a day of silence a warning.
USUAL_DAYS = 3

#: Cache lifetime in seconds of the slower checks.
CACHE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class HealthWarning:
    """One problem: a sentence, the URL that resolves it, and whether it is urgent."""

    text: str
    url: str
    is_urgent: bool = False


def find_warnings(now: datetime) -> list[HealthWarning]:
    """Return every problem, urgent ones first."""
    warnings = [
        *_self_check_problems(),
        *_unanswered(),
        *_unusable(),
        *_without_policy(),
        *(HealthWarning(*values) for values in provider_warnings.find_warnings(now)),
        *(HealthWarning(*values) for values in mailbox_warnings.find_warnings()),
        *(HealthWarning(*values) for values in outbound_troubles.find_warnings()),
        *_workflows(),
        *_unreadable(now),
        *_unreachable(),
        *_old_tokens(),
        *_on_call(now),
        *_silent(now),
        *_ignored_first_status(now),
    ]
    return sorted(warnings, key=lambda warning: not warning.is_urgent)


def _workflows() -> Iterator[HealthWarning]:
    """Yield workflows that have no effect or are stuck. Paging never waits for them."""
    with database.pool().connection() as connection:
        problems = list(workflows.find_problems(connection))
    for problem in problems:
        url = reverse("workflow", args=[problem.workflow_id])
        if problem.kind == "stuck":
            url = f"{reverse('workflow_log', args=[problem.workflow_id])}?show=stuck"
        yield HealthWarning(problem.reason.localized(), url)


def _self_check_problems() -> Iterator[HealthWarning]:
    """Yield the problems of the last self-check."""
    status = health_status.read()
    if status.silence:
        yield HealthWarning(status.silence.localized(), reverse("system"), is_urgent=True)
    for problem in status.problems:
        yield HealthWarning(
            f"{problem.title.localized()}: {problem.detail.localized()}", reverse("system"), is_urgent=True
        )


# Raw SQL: Home runs all of these on every request, and Django takes longer to build such a query than PostgreSQL to run
# it. `escalation.models.EXHAUSTED_RUNS` has the condition and the index of the first one.
_UNANSWERED = """
    SELECT run.alert_id AS number, alert.subject
    FROM escalation_run run JOIN alerts_alert alert ON alert.id = run.alert_id
    WHERE (run.status = 'finished'
           OR (run.status = 'active' AND run.due_at IS NOT NULL AND run.progress -> 'is_repeating_last_step' = 'true'))
    AND alert.status = 'open' ORDER BY run.alert_id DESC LIMIT 5
"""
_WITHOUT_POLICY = """
    SELECT id, name FROM inbound_integration integration WHERE mode = 'page' AND policy_id IS NULL
    AND NOT EXISTS (SELECT FROM inbound_integration_recipient_users WHERE integration_id = integration.id)
    ORDER BY name LIMIT 5
"""
_UNREADABLE = """
    SELECT count(*) AS number FROM inbound_inboundmessage WHERE status = 'Mapping Failed' AND id >= %(since)s
"""
_UNREACHABLE = """
    SELECT person.name, person.username, team.name AS group_name, team.id AS group_id
    FROM people_membership membership JOIN people_group team ON team.id = membership.group_id
    JOIN people_user person ON person.id = membership.user_id AND person.is_active
    WHERE cardinality(membership.roles) > 0
    AND NOT EXISTS (SELECT FROM people_contactmethod WHERE user_id = person.id AND is_enabled AND NOT awaits_code)
    ORDER BY team.name, membership.position, membership.id LIMIT 5
"""
_OLD_TOKENS = """
    SELECT id, name, previous_token_requests AS posts FROM inbound_integration
    WHERE previous_token_requests > 0 ORDER BY name
"""


def _rows(statement: LiteralString, **values: object) -> list[DictRow]:
    with database.pool().connection() as connection:
        return database.rows(connection, statement, values)


def _unanswered() -> Iterator[HealthWarning]:
    for row in _rows(_UNANSWERED):
        text = _("Nobody answered alert %(number)s: %(subject)s") % row
        yield HealthWarning(text, reverse("alert", args=[row["number"]]), is_urgent=True)


def _unusable() -> Iterator[HealthWarning]:
    compiled_registry = registry.shared_registry()
    compiled_registry.refresh()
    for integration in compiled_registry.get_all().values():
        if integration.problem is not None:
            text = _("%(name)s decides nothing, its messages are only kept: %(why)s") % {
                "name": integration.name,
                "why": integration.problem.reason.localized(),
            }
            yield HealthWarning(text, reverse("integration", args=[integration.id]), is_urgent=True)


def _without_policy() -> Iterator[HealthWarning]:
    for row in _rows(_WITHOUT_POLICY):
        text = _("%(name)s pages nobody: it has neither a policy nor recipients") % row
        yield HealthWarning(text, reverse("integration", args=[row["id"]]), is_urgent=True)


def _unreadable(now: datetime) -> Iterator[HealthWarning]:
    number = _rows(_UNREADABLE, since=first_uuid7(now - timedelta(days=7)))[0]["number"]
    if number:
        text = ngettext(
            "%(count)d message of the last 7 days could not be read",
            "%(count)d messages of the last 7 days could not be read",
            number,
        ) % {"count": number}
        yield HealthWarning(text, f"{reverse('inbound_log')}?outcome=failed")


def _unreachable() -> Iterator[HealthWarning]:
    for row in _rows(_UNREACHABLE):
        names = {"name": row["name"] or row["username"], "group": row["group_name"]}
        text = _("%(name)s is on call in %(group)s and cannot be reached") % names
        yield HealthWarning(text, reverse("group", args=[row["group_id"]]), is_urgent=True)


def _old_tokens() -> Iterator[HealthWarning]:
    for row in _rows(_OLD_TOKENS):
        text = ngettext(
            "%(count)d message came to an old URL of %(name)s",
            "%(count)d messages came to an old URL of %(name)s",
            row["posts"],
        ) % {"count": row["posts"], "name": row["name"]}
        yield HealthWarning(text, reverse("integration_security", args=[row["id"]]))


def _on_call(now: datetime) -> Iterator[HealthWarning]:
    """Yield coverage problems of the next two weeks, and external calendars that cannot be read."""
    with database.transaction() as connection:
        key = f"on-call:{config_version.current_version(connection)}"
        group_findings = caches["process"].get(key)
        if group_findings is None:
            group_findings = list(_coverage(connection, now))
            caches["process"].set(key, group_findings, CACHE_SECONDS)
        unread_calendars = coverage.unread_calendars(connection)
    for group, finding in group_findings:
        # A gap that affects a page today is urgent; a shift that is never effective is not.
        is_urgent = finding.kind is not CoverageFindingKind.HIDDEN and (finding.since or now) < now + DAY
        yield HealthWarning(describe_finding(finding, now), reverse("group_schedule", args=[group]), is_urgent)
    for calendar in unread_calendars[:MAX_GAPS_PER_GROUP]:
        yield HealthWarning(calendar.reason.localized(), reverse("schedule", args=[calendar.schedule_id]))


def _coverage(connection: Connection, now: datetime) -> Iterator[tuple[int, CoverageFinding]]:
    group_ids = [row["group_id"] for row in database.rows(connection, "SELECT DISTINCT group_id FROM oncall_schedule")]
    for number, (_plan, findings) in coverage.coverage_of_groups(connection, group_ids, now, FORTNIGHT).items():
        for finding in coverage_checks.first_of_each(coverage_checks.problems(findings))[:MAX_GAPS_PER_GROUP]:
            yield number, finding


def _silent(now: datetime) -> Iterator[HealthWarning]:
    """Yield integrations that received messages every day, but none in the last day."""
    latest_message = InboundMessage.objects.filter(integration=OuterRef("pk")).order_by("-pk").values("received_at")[:1]
    integrations = (
        Integration.objects.exclude(mode=IntegrationMode.DISABLED)
        .annotate(newest=Subquery(latest_message))
        .order_by("name")
    )
    for integration in integrations[:MAX_INTEGRATIONS_CHECKED]:
        newest = integration.newest
        if newest is None or newest > now - DAY:
            continue
        rows = InboundMessage.objects.filter(integration=integration)
        previous_days = [newest - DAY * number for number in range(1, USUAL_DAYS + 1)]
        if all(rows.filter(pk__gte=first_uuid7(day), pk__lt=first_uuid7(day + DAY)).exists() for day in previous_days):
            text = _("%(name)s got messages day by day, and none for %(span)s") % {
                "name": integration.name,
                "span": local_duration(timedelta(hours=(now - newest) // timedelta(hours=1))),
            }
            yield HealthWarning(text, reverse("integration", args=[integration.pk]))


def _ignored_first_status(now: datetime) -> Iterator[HealthWarning]:
    """Yield integrations whose tickets start with a status that opens no alert."""
    for integration in Integration.objects.filter(mode=IntegrationMode.PAGE).order_by("name")[
        :MAX_INTEGRATIONS_CHECKED
    ]:
        # The check reads the messages of recent days, so its result is cached between requests.
        key = f"statuses:{integration.pk}:{integration.current_version_id}"
        warning = caches["process"].get(key)
        if warning is None:
            warning = observed_statuses.load_observed_statuses(integration, now).warning
            caches["process"].set(key, warning, CACHE_SECONDS)
        if warning:
            yield HealthWarning(
                f"{integration.name}: {warning.localized()}", reverse("integration", args=[integration.pk])
            )
