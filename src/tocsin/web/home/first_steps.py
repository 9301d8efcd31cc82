"""What is left to set up, in order, as long as something is. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert
from tocsin.core import config
from tocsin.escalation.models import Policy
from tocsin.inbound.models import Integration
from tocsin.notify.models import Delivery, Provider
from tocsin.notify.states import DeliveryStatus
from tocsin.oncall.models import Schedule
from tocsin.people.models import ContactMethod, Membership, User


@dataclass(frozen=True, slots=True)
class FirstStep:
    """One step: what it is, why, where, and whether it is done."""

    title: Any
    why: Any
    url: str
    is_done: bool
    #: Without it paging works; nobody is asked for ever.
    is_optional: bool = False


def left(user: User) -> list[FirstStep]:
    """All steps in order; none once the necessary ones are done."""
    has_channel = config.current().smtp_url is not None or Provider.objects.filter(is_enabled=True).exists()
    steps = [
        FirstStep(
            _("A way out for messages"),
            _("Until there is one, everything goes to the sandbox."),
            reverse("providers"),
            has_channel,
        ),
        FirstStep(
            _("How to reach you"),
            _("A contact method of your own: have it mail, text or call you now, and see that it arrives."),
            reverse("me"),
            _was_reached(user),
        ),
        FirstStep(
            _("The people to call"),
            _("Invite them one by one, or bring them all from a CSV. Each enters their own ways to be reached."),
            reverse("users"),
            User.objects.filter(is_active=True).exclude(pk=user.pk).exists(),
            is_optional=True,
        ),
        FirstStep(
            _("A group with somebody on call"),
            _("Who is called first, and who next."),
            reverse("groups"),
            Membership.objects.filter(roles__contains=["primary"]).exists(),
        ),
        FirstStep(
            _("A schedule"),
            _("Who is on call when, by weeks, nights or office hours. Without one the group's order always holds."),
            reverse("new_schedule"),
            Schedule.objects.exists(),
            is_optional=True,
        ),
        FirstStep(
            _("An escalation policy"),
            _("After how many minutes the next person is called."),
            reverse("policies"),
            Policy.objects.exists(),
        ),
        FirstStep(
            _("The first integration"),
            _("A URL for HaloITSM, or for any tool that sends webhooks."),
            reverse("integrations"),
            Integration.objects.exists(),
        ),
        FirstStep(
            _("The first alert"),
            _("Send a sample, and answer it."),
            reverse("integrations"),
            Alert.objects.exists(),
        ),
        FirstStep(
            _("An outside heartbeat"),
            _("With TOCSIN_HEARTBEAT_URL somebody else notices when this machine is gone."),
            reverse("system"),
            config.current().heartbeat_url is not None,
            is_optional=True,
        ),
    ]
    return steps if not all(step.is_done or step.is_optional for step in steps) else []


def _was_reached(user: User) -> bool:
    """Whether there is a way to reach the user that has worked once, in a test or for real."""
    if not ContactMethod.objects.filter(user=user, is_enabled=True).exists():
        return False
    arrived = [DeliveryStatus.SENT, DeliveryStatus.DELIVERED]
    return Delivery.objects.filter(user=user, status__in=arrived).exists()
