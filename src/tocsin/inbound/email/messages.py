"""Mails on their way to an integration: whose they are, and how one becomes the message that is stored."""

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

#: The kind of integration that mails reach.
KIND: Final = "email"


def doors_for(registry: IntegrationRegistry, address: str, now: datetime) -> list[CompiledIntegration]:
    """The integrations that a mail to `address` is for: the part before its @ (and before a +) is a token, or a mailbox
    that several may share."""
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


def stamped(raw: bytes, number: UUID, came: str, now: datetime) -> bytes:
    """The mail as it is kept: with a line that says how it came, and where its attachments will be. One that is too
    large is kept without what is attached. Raises Rejected ("invalid_mail") for one that is too large all the same."""
    if len(raw) > mail.MAX_KEPT:
        raw = mail.without_attachments(raw)
        if len(raw) > mail.MAX_KEPT:
            raise Rejected("invalid_mail", "The mail is too large, without what is attached too.")
    place = f"{environment.current().public_url}/inbound-log/{number}/attachments/"
    head = f"Received: {came} by Tocsin; {format_datetime(now)}\r\n{mail.PLACE}: {place}\r\n"
    return head.encode("ascii", "replace") + raw.lstrip(b"\r\n")


def element(raw: bytes) -> Element | Rejected:
    """The mail as an element, or why it cannot be one."""
    try:
        return Element(mail.read(raw), raw)
    except Rejected as problem:
        return problem


def incoming(
    door: CompiledIntegration, raw: bytes, number: UUID, headers: Mapping[str, str], now: datetime
) -> IncomingMessage:
    """The message that a stamped mail is for an integration."""
    read = element(raw)
    return IncomingMessage(
        number, door.id, now, raw, read, mail.MEDIA_TYPE, headers, prepared=prepare(door, read, number)
    )
