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
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.deciding.preprocessing import prepare
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.storage.messages import IncomingMessage

#: The integration kind that receives e-mails.
KIND: Final = "email"


def integrations_for(registry: IntegrationRegistry, address: str, now: datetime) -> list[CompiledIntegration]:
    """Returns the integrations that an e-mail to `address` is for. The local part (up to a +) is a token, or a mailbox
    name that several integrations may share."""
    local = address.rpartition("@")[0].strip().strip('"').partition("+")[0]
    if not local or len(local) > 200 or not local.isascii():
        return []
    found = registry.find(token_hash(local), now) or registry.find(token_hash(local.lower()), now)
    if found is not None:
        if found.expired:
            registry.count_expired(found.door.id)
            return []
        return [found.door] if found.door.reader.kind.name == KIND else []
    name = local.casefold()
    return [
        door
        for door in registry.doors().values()
        if door.reader.kind.name == KIND and str(door.settings.get("mailbox") or "").casefold() == name
    ]


def add_received_headers(raw: bytes, number: UUID, came: str, now: datetime) -> bytes:
    """Returns the e-mail as stored, with headers for how it arrived and where its attachments are served. An oversized
    e-mail is stored without attachments. Raises Rejected("invalid_mail") if it is still too large."""
    if len(raw) > mail.MAX_KEPT:
        raw = mail.without_attachments(raw)
        if len(raw) > mail.MAX_KEPT:
            raise Rejected("invalid_mail", "The mail is too large, without what is attached too.")
    place = f"{environment.current().public_url}/inbound-log/{number}/attachments/"
    head = f"Received: {came} by Tocsin; {format_datetime(now)}\r\n{mail.PLACE}: {place}\r\n"
    return head.encode("ascii", "replace") + raw.lstrip(b"\r\n")


def element(raw: bytes) -> Element | Rejected:
    """Parses the e-mail to an element, or returns why it cannot be parsed."""
    try:
        return Element(mail.read(raw), raw)
    except Rejected as problem:
        return problem


def incoming(
    door: CompiledIntegration, raw: bytes, number: UUID, headers: Mapping[str, str], now: datetime
) -> IncomingMessage:
    """Returns a stored-form e-mail as an incoming message for an integration."""
    read = element(raw)
    return IncomingMessage(
        number, door.id, now, raw, read, mail.MEDIA_TYPE, headers, prepared=prepare(door, read, number)
    )
