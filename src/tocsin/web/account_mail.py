"""Sends account e-mail (invitations, password resets) through the first e-mail provider that accepts it.

Without an e-mail provider the message goes to the sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence

from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.net.egress import OutcomeUnknown
from tocsin.core.runtime import clock
from tocsin.notify.interfaces import Rendered
from tocsin.notify.models import SandboxMessage
from tocsin.notify.providers.pool import ActiveProvider, ProviderPool

CHANNEL = "email"

_providers = ProviderPool()


def is_sent_outside() -> bool:
    """Return whether an e-mail provider is configured, so that account mail is sent to a real server."""
    _refresh()
    return _providers.has_provider(CHANNEL)


class AccountMailBackend(BaseEmailBackend):
    """Django e-mail backend that sends through Tocsin's e-mail providers."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send each message to each recipient and return the number of messages sent.

        If every provider fails, raises the last provider's Temporary, Permanent or OutcomeUnknown.
        """
        _refresh()
        for message in email_messages:
            for address in message.recipients():
                _send(message, address)
        return len(email_messages)


def _send(message: EmailMessage, address: str) -> None:
    rendered = Rendered(str(message.subject), str(message.body), _html(message))
    providers = _providers.providers_for(CHANNEL, address)
    if not providers:
        SandboxMessage.objects.create(
            delivery=ids.uuid7(), channel=CHANNEL, address=address, content=rendered.content(), at=clock.now()
        )
        return
    _send_with_failover(rendered, address, providers)


def _send_with_failover(rendered: Rendered, address: str, providers: Sequence[ActiveProvider]) -> None:
    key = str(ids.uuid7())
    failure: Exception | None = None
    for provider in providers:
        try:
            provider.sender.send(rendered, CHANNEL, address, key)
        except (Temporary, Permanent, OutcomeUnknown) as error:
            failure = error
        else:
            return
    assert failure is not None
    raise failure


def _html(message: EmailMessage) -> str:
    if not isinstance(message, EmailMultiAlternatives):
        return ""
    return next((str(content) for content, kind in message.alternatives if kind == "text/html"), "")


def _refresh() -> None:
    with database.transaction() as connection:
        _providers.refresh(connection)
