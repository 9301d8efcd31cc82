"""Setup checklist: the remaining steps, in order, until the required ones are done. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.core.config import environment
from tocsin.core.db import database
from tocsin.notify.states import DeliveryStatus
from tocsin.operate.checks import address
from tocsin.people.models import User

_COMPLETED = """
    SELECT
        EXISTS (SELECT FROM notify_provider WHERE is_enabled) AS provider,
        EXISTS (SELECT FROM people_contactmethod WHERE user_id = %(user)s AND is_enabled)
        AND EXISTS (SELECT FROM notify_delivery WHERE user_id = %(user)s AND status = ANY(%(arrived)s)) AS
        has_reached_user,
        EXISTS (SELECT FROM people_user WHERE is_active AND NOT is_service_account AND id <> %(user)s) AS other_users,
        EXISTS (SELECT FROM people_membership WHERE roles @> ARRAY['primary']::varchar[]) AS on_call,
        EXISTS (SELECT FROM oncall_schedule) AS schedule,
        EXISTS (SELECT FROM escalation_policy) AS policy,
        EXISTS (SELECT FROM inbound_integration) AS integration,
        EXISTS (SELECT FROM alerts_alert) AS alert
"""


@dataclass(frozen=True, slots=True)
class FirstStep:
    """One step: its title, reason, URL and whether it is done."""

    title: Any
    reason: Any
    url: str
    is_done: bool
    #: Paging works without it, so the checklist may end without it.
    is_optional: bool = False
    #: Why the step matters now, in red: what fails without it.
    problem: str = ""


def setup_steps(user: User) -> list[FirstStep]:
    """Return all steps in order, or none once the required ones are done."""
    completed = _completed_steps(user)
    address_problem = next(iter(address.check_reach(environment.current().base_url)), None)
    steps = [
        FirstStep(
            _("Connect a notification provider"),
            _("Until then, all messages stay in the sandbox."),
            reverse("providers"),
            environment.current().smtp_url is not None or completed["provider"],
        ),
        FirstStep(
            _("Add your contact methods"),
            _("Add an email address, phone or device, and send yourself a test."),
            reverse("me"),
            completed["has_reached_user"],
        ),
        FirstStep(
            _("Invite your team"),
            _("Paste their addresses, or a CSV with phones. Each verifies their own contact methods."),
            reverse("invite_many"),
            completed["other_users"],
            is_optional=True,
        ),
        FirstStep(
            _("Create an on-call group"),
            _("Who is paged first, and who next."),
            reverse("groups"),
            completed["on_call"],
        ),
        FirstStep(
            _("Create a schedule"),
            _(
                "Who is on call when: weekly, at night or in office hours. Without a schedule, the "
                "group's order always applies."
            ),
            reverse("new_schedule"),
            completed["schedule"],
            is_optional=True,
        ),
        FirstStep(
            _("Create an escalation policy"),
            _("How long to wait before the next person is paged."),
            reverse("policies"),
            completed["policy"],
        ),
        FirstStep(
            _("Set the public URL"),
            address_problem.remedy.localized() if address_problem else environment.current().public_url,
            reverse("system"),
            address_problem is None,
            # Enough for a trial on one machine.
            is_optional=True,
            problem=address_problem.detail.localized() if address_problem else "",
        ),
        FirstStep(
            _("Add your first integration"),
            _("A webhook URL for HaloITSM or any other tool."),
            reverse("integrations"),
            completed["integration"],
        ),
        FirstStep(
            _("Trigger your first alert"),
            _("Send a sample and acknowledge it."),
            reverse("integrations"),
            completed["alert"],
        ),
        FirstStep(
            _("External heartbeat (dead man's switch)"),
            _("Set TOCSIN_HEARTBEAT_URL so that an external service notices when this server is down."),
            reverse("system"),
            environment.current().heartbeat_url is not None,
            is_optional=True,
        ),
    ]
    return steps if not all(step.is_done or step.is_optional for step in steps) else []


def _completed_steps(user: User) -> dict[str, bool]:
    """Return which steps are done, in one statement. A user counts as reachable once a contact method has worked, in a
    test or for a real page."""
    arrived = [DeliveryStatus.SENT, DeliveryStatus.DELIVERED]
    with database.connection() as connection:
        return database.row(connection, _COMPLETED, {"user": user.pk, "arrived": arrived}) or {}
