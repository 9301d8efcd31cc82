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
from tocsin.web.told import told


def found() -> Iterator[tuple[str, str, bool]]:
    """Yield (sentence, URL that resolves it, urgent) for each."""
    with database.transaction() as connection:
        doors = mailbox_errors.current_errors(connection, MailboxReader.INBOUND)
        answers = mailbox_errors.current_errors(connection, MailboxReader.ANSWERS)
    if doors:
        rows = Integration.objects.exclude(mode=IntegrationMode.DISABLED).in_bulk([one.number for one in doors])
        for one in doors:
            if integration := rows.get(one.number):
                text = _("The mailbox of %(name)s cannot be read: %(why)s") % {
                    "name": integration.name,
                    "why": told(one.error),
                }
                yield text, reverse("integration_security", args=[integration.pk]), True
    if answers:
        providers = Provider.objects.filter(is_enabled=True).in_bulk([one.number for one in answers])
        for one in answers:
            if provider := providers.get(one.number):
                text = _("Answers by mail are not read, %(name)s: %(why)s") % {
                    "name": provider.name,
                    "why": told(one.error),
                }
                yield text, reverse("provider", args=[provider.pk]), False
