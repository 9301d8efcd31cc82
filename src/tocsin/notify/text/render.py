"""Renders a bundle of deliveries for its channel: signs links, decrypts verification codes, redacts and translates."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.db.database import Connection
from tocsin.notify.interfaces import Channel, Message, Rendered
from tocsin.notify.rules.bundling import DeliveryBundle
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.text import reply_codes, signed_links
from tocsin.notify.text.localization import localize
from tocsin.notify.text.message import LinkTo, message
from tocsin.notify.text.redaction import ContentLevel, redact

#: A message that waited longer than this gets links with a full validity period.
_SAME_FOR = timedelta(days=1)


def compose(
    bundle: DeliveryBundle,
    way: Channel,
    now: datetime,
    *,
    can_reply: bool,
    content: ContentLevel,
    has_reply_codes: bool = False,
) -> Rendered:
    """Returns the rendered message of `bundle`. Raises Permanent if an encrypted code cannot be decrypted."""
    public = environment.current().public_url
    opened = DeliveryBundle((_unsealed(bundle, way), *bundle.members[1:])) if bundle.lead.data.get("sealed") else bundle
    # Links are signed as of queueing time, so that a retried message is identical, down to its Message-ID.
    signed_at = max(bundle.lead.queued_at, now - _SAME_FOR)
    made = message(opened, link_to(public, signed_at), public, now, can_reply=can_reply)
    # Redact before translating: redaction searches for the stored words.
    told = _in_language(redact(made, content))
    return way.render(_with_reply_codes(told, bundle.lead.user_id) if has_reply_codes else told)


def _with_reply_codes(made: Message, user_id: int | None) -> Message:
    """A group contact has no user who could reply, and so no reply code."""
    if user_id is None:
        return made
    alerts = tuple(replace(alert, reply_code=reply_codes.code_of(user_id, alert.id)) for alert in made.alerts)
    return replace(made, alerts=alerts)


def _in_language(made: Message) -> Message:
    return replace(
        made,
        title=localize(made.title, made.language),
        text=localize(made.text, made.language),
        reason=localize(made.reason, made.language),
        alerts=tuple(replace(alert, news=localize(alert.news, made.language)) for alert in made.alerts),
    )


def content_of(connection: Connection, channel: str) -> ContentLevel:
    """Returns how much of an alert the channel's messages may disclose, from the settings."""
    return ContentLevel(settings_store.load(connection).get(settings_store.content_name(channel), ContentLevel.FULL))


def link_to(public: str, now: datetime) -> LinkTo:
    """Returns a function that makes the links of messages sent at `now`."""

    def address(alert_id: int, user_id: int | None) -> str:
        # A group contact is not a user: anyone who opens the link must sign in.
        return public + (
            f"/alerts/{alert_id}" if user_id is None else signed_links.path(signed_links.sign(alert_id, user_id, now))
        )

    return address


def _unsealed(bundle: DeliveryBundle, way: Channel) -> DueDelivery:
    lead = bundle.lead
    code = crypto.decrypt(str(lead.data["sealed"]))
    # A voice would read the code as one large number; with commas it reads the digits one by one.
    said = ", ".join(code) if way.name == "voice" else code
    filled = {name: str(lead.data.get(name, "")).replace("{code}", said) for name in ("title", "text")}
    return replace(lead, data={**lead.data, **filled})
