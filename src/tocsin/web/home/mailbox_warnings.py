"""Mailboxes that cannot be read, for Home: mail sent to them is not processed. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.core.db import database
from tocsin.core.net import mailbox_errors
from tocsin.core.net.mailbox_errors import MailboxReader
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.notify.models import Provider


def find_warnings() -> Iterator[tuple[str, str, bool]]:
    """Yield (sentence, URL that resolves it, urgent) for each."""
    with database.transaction() as connection:
        integration_errors = mailbox_errors.current_errors(connection, MailboxReader.INBOUND)
        reply_errors = mailbox_errors.current_errors(connection, MailboxReader.REPLIES)
    if integration_errors:
        rows = Integration.objects.exclude(mode=IntegrationMode.DISABLED).in_bulk(
            [mailbox_error.owner_id for mailbox_error in integration_errors]
        )
        for mailbox_error in integration_errors:
            if integration := rows.get(mailbox_error.owner_id):
                text = _("The mailbox of %(name)s cannot be read: %(why)s") % {
                    "name": integration.name,
                    "why": mailbox_error.error.localized(),
                }
                yield text, reverse("integration_security", args=[integration.pk]), True
    if reply_errors:
        providers = Provider.objects.filter(is_enabled=True).in_bulk(
            [mailbox_error.owner_id for mailbox_error in reply_errors]
        )
        for mailbox_error in reply_errors:
            if provider := providers.get(mailbox_error.owner_id):
                text = _("Answers by mail are not read, %(name)s: %(why)s") % {
                    "name": provider.name,
                    "why": mailbox_error.error.localized(),
                }
                yield text, reverse("provider", args=[provider.pk]), False
