"""What is forgotten of a person whose account is deleted: every number and address that messages went to, and what the
sandbox kept. That they were paged, and what they did, stays on record."""

from __future__ import annotations

from tocsin.notify.models import Delivery, LastSent, MailReply, Notification, OptOut, SandboxMessage
from tocsin.people.models import ContactMethod


def forget(user_id: int) -> None:
    """Inside the caller's transaction, before the account goes."""
    notifications = Notification.objects.filter(user=user_id)
    Delivery.objects.filter(notification__in=notifications.values("pk")).update(address="", error="")
    notifications.update(address="")
    SandboxMessage.objects.filter(user=user_id).delete()
    LastSent.objects.filter(recipient=user_id).delete()
    MailReply.objects.filter(user=user_id).update(sender="", reason="")
    for channel, address in ContactMethod.objects.filter(user=user_id).values_list("channel", "address"):
        if not ContactMethod.objects.filter(channel=channel, address=address).exclude(user=user_id).exists():
            OptOut.objects.filter(channel=channel, address=address).delete()
