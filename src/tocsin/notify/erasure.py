"""Erases personal data when a user account is deleted: the addresses of sent messages, sandbox messages and mail
senders. The record that the user was paged, and of the user's actions, remains.
"""

from __future__ import annotations

from tocsin.notify.models import Delivery, LastSent, MailReply, Notification, OptOut, SandboxMessage
from tocsin.people.models import ContactMethod


def erase_user(user_id: int) -> None:
    """Erases the user's addresses and sandbox messages. Runs inside the caller's transaction, before the account row is
    deleted. An opt-out is kept while another user has the same contact method.
    """
    notifications = Notification.objects.filter(user=user_id)
    Delivery.objects.filter(notification__in=notifications.values("pk")).update(
        address="", error_code="", error_data={}
    )
    notifications.update(address="")
    SandboxMessage.objects.filter(user=user_id).delete()
    LastSent.objects.filter(recipient=user_id).delete()
    MailReply.objects.filter(user=user_id).update(sender="", reason_code="", reason_data={})
    for channel, address in ContactMethod.objects.filter(user=user_id).values_list("channel", "address"):
        if not ContactMethod.objects.filter(channel=channel, address=address).exclude(user=user_id).exists():
            OptOut.objects.filter(channel=channel, address=address).delete()
