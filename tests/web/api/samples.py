"""Rows of every kind, many at once, for lists that must not ask for each of them."""

from __future__ import annotations

import secrets

from tests.web.api.conftest import Company
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.core.ids import uuid7
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.notify.models import Delivery, Notification, SandboxMessage
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, User

LISTS = (
    "alerts",
    "alerts/1/events",
    "notifications",
    "deliveries",
    "users",
    "contact-methods",
    "groups",
    "tokens",
    "audit-log",
    "sandbox-messages",
)

FOR_ADMINISTRATORS = frozenset({"audit-log", "tokens", "sandbox-messages"})

#: One for the token, two for the groups of its user, and the rows with what hangs on them.
MOST_STATEMENTS = 7


def fill(company: Company, number: int) -> None:
    """Adds `number` rows to every list, each with everything that a row can have hanging on it."""
    integration = Integration.objects.filter(name="Door").first() or Integration.objects.create(
        name="Door",
        kind="api",
        group=company.desk,
        token_hash=secrets.token_bytes(32),
        token="x",
        created_at=company.now,
    )
    for _ in range(number):
        name = secrets.token_hex(6)
        user = User.objects.create(username=f"u{name}", email=f"{name}@example.org")
        for position in range(2):
            ContactMethod.objects.create(
                user=user, label=f"way {position}", channel="email", address=f"{name}@example.org"
            )
        group = Group.objects.create(name=f"g{name}")
        Membership.objects.create(group=group, user=user, roles=["primary"])
        contact = GroupContact.objects.create(group=group, label="list", channel="email", address="list@example.org")
        ApiToken.objects.create(user=user, name="t", hash=secrets.token_bytes(32), prefix="abc", created_at=company.now)
        AuditEntry.objects.create(at=company.now, actor=user, actor_name=name, action="create")
        alert = Alert.objects.create(
            subject=name, opened_at=company.now, last_message_at=company.now, owner=user, integration=integration
        )
        for who in (user, company.bob):
            Acknowledgement.objects.create(alert=alert, user=who, at=company.now)
        first = Alert.objects.order_by("id").first()
        AlertEvent.objects.create(alert=first, at=company.now, kind="replied", actor=user, actor_name=name)
        InboundMessage.objects.create(
            id=uuid7(), integration=integration, received_at=company.now, status="Mapped Opened", alert=alert, raw=b"{}"
        )
        notification = Notification.objects.create(
            id=uuid7(), alert=alert, user=user, group_contact=contact, purpose="page", channel="email",
            address="a@example.org", created_at=company.now,
        )  # fmt: skip
        delivery = Delivery.objects.create(
            id=uuid7(), notification=notification, alert=alert, user=user, channel="email", address="a@example.org",
            purpose="page", queued_at=company.now, due_at=company.now,
        )  # fmt: skip
        SandboxMessage.objects.create(
            delivery=delivery.pk, alert=alert, user=user, channel="email", address="a@example.org", content={},
            at=company.now,
        )  # fmt: skip
