"""Converts e-mails to messages: finds the integrations addressed, and builds the stored form."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Final
from uuid import UUID

from tocsin.core.config import environment
from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash
from tocsin.core.reasons import ReasonType
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage.messages import IncomingMessage

_TOO_LARGE = ReasonType("mail.too_large_without_attachments", "The email is too large, even without its attachments.")

#: The integration kind that receives e-mails.
KIND: Final = "email"


def integrations_for(registry: IntegrationRegistry, address: str, now: datetime) -> list[CompiledIntegration]:
    """Returns the integrations that an e-mail to `address` is for. The local part (up to a +) is a token, or a mailbox
    name that several integrations may share."""
    local = address.rpartition("@")[0].strip().strip('"').partition("+")[0]
    if not local or len(local) > 200 or not local.isascii():
        return []
    lookup = registry.find(token_hash(local), now) or registry.find(token_hash(local.lower()), now)
    if lookup is not None:
        if lookup.is_expired:
            registry.count_expired(lookup.integration.id)
            return []
        return [lookup.integration] if lookup.integration.normalizer.kind.name == KIND else []
    name = local.casefold()
    return [
        integration
        for integration in registry.get_all().values()
        if integration.normalizer.kind.name == KIND
        and str(integration.settings.get("mailbox") or "").casefold() == name
    ]


def add_received_headers(raw: bytes, message_id: UUID, received_from: str, now: datetime) -> bytes:
    """Returns the e-mail as stored, with headers for how it arrived and where its attachments are served. An oversized
    e-mail is stored without attachments. Raises Rejected("invalid_mail") if it is still too large."""
    if len(raw) > mail.MAX_STORED_BYTES:
        raw = mail.without_attachments(raw)
        if len(raw) > mail.MAX_STORED_BYTES:
            raise Rejected("invalid_mail", _TOO_LARGE())
    attachments_url = f"{environment.current().public_url}/inbound-log/{message_id}/attachments/"
    header_lines = (
        f"Received: {received_from} by Tocsin; {format_datetime(now)}\r\n{mail.ATTACHMENTS_HEADER}: "
        f"{attachments_url}\r\n"
    )
    return header_lines.encode("ascii", "replace") + raw.lstrip(b"\r\n")


def element(raw: bytes) -> Element | Rejected:
    """Parses the e-mail to an element, or returns why it cannot be parsed."""
    try:
        return Element(mail.read(raw), raw)
    except Rejected as problem:
        return problem


def incoming(
    integration: CompiledIntegration, raw: bytes, message_id: UUID, headers: Mapping[str, str], now: datetime
) -> IncomingMessage:
    """Returns a stored-form e-mail as an incoming message for an integration."""
    parsed = element(raw)
    return IncomingMessage(
        message_id,
        integration.id,
        now,
        raw,
        parsed,
        mail.MEDIA_TYPE,
        headers,
        preprocessed=prepare(integration, parsed, message_id),
    )
