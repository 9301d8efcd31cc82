"""Renders a bundle of deliveries for its channel: signs links, decrypts verification codes, redacts and translates."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from django.core.cache import cache
from django.utils.translation import gettext, gettext_noop

from tocsin.alerts.states import CommandKind
from tocsin.alerts.store import MIN_STORM_ALERTS, subject_pattern
from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.db.database import Connection
from tocsin.core.reasons import (
    NO_REASON,
    AlertRef,
    Reason,
    Text,
    as_reason,
    reason_as_json,
    reason_from_json,
    replace_texts,
    sentence,
)
from tocsin.core.validation.inputs import is_zone
from tocsin.notify.interfaces import AlertContent, Channel, Message, MessageButton, Rendered
from tocsin.notify.rules.pre_send_check import AlertFacts, DeliveryBundle, DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, signed_links
from tocsin.notify.text.formatting import alert_count, in_language, phrase, word_of
from tocsin.notify.text.signed_links import LinkSubject

# ---------- message


#: Returns the URL where a user (None: anyone who signs in) can act on an alert (None: on all that paged the user):
#: `(alert_id, user_id) → url`.
type LinkTo = Callable[[int | None, int | None], str]

#: A text message has no room for more.
_MAX_STORM_CHARS = 100

_ACTIONABLE = (Purpose.PAGE, Purpose.ACK_REMINDER)


def message(bundle: DeliveryBundle, link_to: LinkTo, home_url: str, now: datetime, *, can_reply: bool) -> Message:
    """Returns the message of `bundle`, in the active language and time zone. `home_url` is Tocsin's public address."""
    lead = bundle.lead
    # An alert with several pages in the bundle is named once.
    alerts = {due.alert.id: (due, due.alert) for due in bundle.members if due.alert is not None}
    is_bundle = len(alerts) > 1
    # The most urgent alerts come first. If there is no room for all, the least urgent are left out.
    named = sorted(alerts.values(), key=lambda pair: pair[1].priority.rank)[: bundle.named_count or None]
    title, text = _text(lead, "title"), _text(lead, "text")
    if is_bundle and lead.purpose is Purpose.NOTICE:
        title, text = _bundled_notice_texts([due for due, _ in alerts.values()], lead.language)
    return Message(
        notification_id=lead.notification_id,
        purpose=lead.purpose,
        at=now,
        recipient=lead.user_name,
        time_zone=lead.time_zone,
        alerts=tuple(_alert(due, alert, link_to) for due, alert in named),
        title=title,
        text=text,
        reason=NO_REASON if is_bundle else lead.notification_reason,
        home_url=link_to(None, lead.user_id if lead.purpose in _ACTIONABLE else None) if is_bundle else home_url,
        can_reply=can_reply,
        language=lead.language,
        omitted_count=len(alerts) - len(named),
        storm=_storm(list(alerts.values())),
    )


def _storm(alerts: Sequence[tuple[DueDelivery, AlertFacts]]) -> str:
    """Returns what alerts that arrived together have in common, if they are as many as a storm has."""
    shared = {(due.integration_id, subject_pattern(alert.subject)) for due, alert in alerts}
    if len(alerts) < MIN_STORM_ALERTS or len(shared) > 1:
        return ""
    clients = {alert.client for _due, alert in alerts}
    first = alerts[0][1]
    client = first.client if len(clients) == 1 else ""
    return formatting.headline(replace(first, subject=subject_pattern(first.subject), client=client), _MAX_STORM_CHARS)


def _bundled_notice_texts(members: Collection[DueDelivery], language: str) -> tuple[str, str]:
    """Returns the title and text of several notices, such as "Nobody answered: 160 alerts"."""
    counts: dict[str, int] = {}
    for due in members:
        heading = _text(due, "heading")
        counts[heading] = counts.get(heading, 0) + 1
    title = ", ".join(f"{heading}: {alert_count(language, count)}" for heading, count in counts.items())
    return title, "\n".join(dict.fromkeys(_text(due, "text") for due in members))


def _text(due: DueDelivery, name: str) -> str:
    """Returns a text of the notification."""
    return reason_from_json(due.data.get(name)).localized()


def _alert(due: DueDelivery, alert: AlertFacts, link_to: LinkTo) -> AlertContent:
    return replace(
        alert,
        long_text=alert.long_text or str(alert.custom.get("details", "")),
        is_vip=str(alert.custom.get("vip", "")).lower() in ("true", "1", "yes"),
        link=link_to(alert.id, due.user_id if due.purpose in _ACTIONABLE else None),
        all_clear_text=_text(due, "news"),
    )


# ---------- redaction
# Limits how much of an alert a channel's messages disclose: everything, client and subject, or only its number. Pure.
#
# Operators and vendors can read text messages, calls and chats in transit.


#: A shorter client or subject, such as "a", would match in the middle of words.
_MIN_REDACTED_CHARS = 3


class ContentLevel(StrEnum):
    """How much of an alert a message may disclose."""

    FULL = "full"
    SUBJECT = "subject"
    NUMBER = "number"


def redact(message: Message, content_level: ContentLevel) -> Message:
    """Returns the message reduced to the permitted content."""
    if content_level is ContentLevel.FULL:
        return message
    redacted = replace(message, alerts=tuple(_alert_redaction(alert, content_level) for alert in message.alerts))
    if content_level is ContentLevel.SUBJECT:
        return redacted
    # The text of a notice was written with the subject in it, so it is replaced there too.
    return replace(
        redacted,
        title=_replace_names(message.title, message),
        text=_replace_names(message.text, message),
        reason=as_reason(_replace_names(message.reason.localized(), message)),
        storm="",
    )


def _replace_names(text: str, message: Message) -> str:
    for alert in message.alerts:
        number = phrase(message.language, "alert {number}", number=alert.id)
        names = [f"{alert.client}: {alert.subject}", alert.subject, formatting.one_line(alert.subject), alert.client]
        for name in names:
            if len(name) >= _MIN_REDACTED_CHARS:
                text = text.replace(name, number)
    return text


def _alert_redaction(alert: AlertContent, content_level: ContentLevel) -> AlertContent:
    redacted = replace(
        alert, short_text="", long_text="", site="", team="", requester="", requester_phone="", is_vip=False
    )
    if content_level is ContentLevel.SUBJECT:
        return redacted
    # The link leads authorised users to the rest.
    subject = formatting.mark(alert) or f"Alert {alert.id}"
    return replace(redacted, subject=subject, client="", source_id="", source_url="", all_clear_text="")


# ---------- reply codes
# Reply codes of text messages. If the setting `sms_reply_codes` is on, a reply must contain the code of its alert,
# which only the recipient's phone received, because a sender number is easy to forge.


#: The maximum number of wrong codes within `_WINDOW` seconds. There are ten thousand codes.
MAX_WRONG = 5
_WINDOW = 3600

#: The code at the end: "ACK 42 7391", "ACK ALL 7391", "REPLY 42 On my way 7391".
_CODE = re.compile(r"(.*\S)\s+([0-9]{4})[\s.!]*", re.DOTALL)

_CODE_REQUIRED = Text("Nothing was done: a reply must end with the code of its alert. Send {example}.")
TOO_MANY_WRONG = sentence("Too many wrong codes within an hour. Open the alert in Tocsin.")


def code_of(user_id: int, alert_id: int) -> str:
    """Returns the four-digit code for the user's replies about the alert."""
    # A separate key, so that no other signature reveals a code.
    key = hashlib.sha256(f"reply code:{crypto.secret_keys()[0]}".encode()).digest()
    number = int.from_bytes(hmac.digest(key, f"{user_id} {alert_id}".encode(), "sha256")[:8])
    return f"{number % 10_000:04}"


def split(text: str) -> tuple[str, str]:
    """Returns the text before the code, and the code; the code is empty if the text does not end with one."""
    match = _CODE.fullmatch(text)
    return (match[1], match[2]) if match else (text, "")


def find_rejection(user_id: int, alert_ids: Collection[int], code: str, command: CommandKind) -> Reason:
    """Returns why a reply with that code is rejected and what a correct one looks like; empty if the code belongs to
    one of the alerts.

    The sentence is sent to the user's stored number, never to the forger.
    """
    if code:
        cache_key = f"wrong reply codes of {user_id}"
        cache.add(cache_key, 0, _WINDOW)
        if cache.incr(cache_key) > MAX_WRONG:
            return TOO_MANY_WRONG
        if any(hmac.compare_digest(code, code_of(user_id, alert_id)) for alert_id in alert_ids):
            cache.decr(cache_key)
            return NO_REASON
    first = next(iter(alert_ids))
    word, expected = word_of(command), code_of(user_id, first)
    if command is CommandKind.REPLY:
        return _CODE_REQUIRED(
            example=sentence("{command} {alert} text {code}", command=word, alert=AlertRef(first), code=expected)
        )
    return _CODE_REQUIRED(example=f"{word} {first} {expected}")


#: A message that waited longer than this gets links of a later day, so that they are valid for long enough.
_LINK_REUSE_PERIOD = timedelta(days=1)

_SWAP_ANSWERS = {"accept": gettext_noop("Accept"), "decline": gettext_noop("Decline")}


def compose(
    bundle: DeliveryBundle,
    channel: Channel,
    now: datetime,
    *,
    can_reply: bool,
    content_level: ContentLevel,
    has_reply_codes: bool = False,
) -> Rendered:
    """Returns the rendered message of `bundle`. Raises Permanent if an encrypted code cannot be decrypted."""
    base_url = environment.current().public_url
    decrypted = (
        DeliveryBundle((_with_decrypted_code(bundle, channel), *bundle.members[1:]))
        if bundle.lead.data.get("sealed")
        else bundle
    )
    # Links are signed as of the notification's own time, so that a repeat by any provider is identical, down to its
    # Message-ID, and mail programs show it once.
    created_at = bundle.lead.created_at or bundle.lead.queued_at
    signed_at = created_at + max(0, (now - created_at) // _LINK_REUSE_PERIOD) * _LINK_REUSE_PERIOD
    lead = bundle.lead
    zone = ZoneInfo(lead.time_zone) if is_zone(lead.time_zone) else UTC
    with in_language(lead.language, zone):
        original = message(decrypted, link_to(base_url, signed_at), base_url, now, can_reply=can_reply)
        made = redact(replace(original, links=_swap_links(lead, base_url, signed_at)), content_level)
        # A group contact has no user who could reply, and so no reply code.
        if has_reply_codes and (user_id := lead.user_id) is not None:
            alerts = (replace(alert, reply_code=code_of(user_id, alert.id)) for alert in made.alerts)
            made = replace(made, alerts=tuple(alerts))
        return channel.render(made)


def _swap_links(lead: DueDelivery, base_url: str, now: datetime) -> tuple[MessageButton, ...]:
    """Returns the links to accept or decline the requested swap, in the active language; none in other messages."""
    swap_id = lead.data.get("swap")
    if not isinstance(swap_id, int) or lead.user_id is None:
        return ()
    token = signed_links.sign(swap_id, lead.user_id, now, LinkSubject.SWAP)
    url = base_url + signed_links.path(token, LinkSubject.SWAP)
    return tuple(MessageButton(gettext(label), f"{url}?answer={answer}") for answer, label in _SWAP_ANSWERS.items())


def content_of(connection: Connection, channel: str) -> ContentLevel:
    """Returns how much of an alert the channel's messages may disclose, from the settings."""
    return ContentLevel(settings_store.load(connection).get(settings_store.content_name(channel), ContentLevel.FULL))


def link_to(base_url: str, now: datetime) -> LinkTo:
    """Returns a function that makes the links of messages sent at `now`."""

    def address(alert_id: int | None, user_id: int | None) -> str:
        # A group contact is not a user: anyone who opens the link must sign in.
        if user_id is None:
            return f"{base_url}/alerts" if alert_id is None else f"{base_url}/alerts/{alert_id}"
        subject = LinkSubject.PAGED if alert_id is None else LinkSubject.ALERT
        return base_url + signed_links.path(signed_links.sign(alert_id or 0, user_id, now, subject))

    return address


def _with_decrypted_code(bundle: DeliveryBundle, channel: Channel) -> DueDelivery:
    lead = bundle.lead
    code = crypto.decrypt(str(lead.data["sealed"]))
    # A voice would read the code as one large number; with commas it reads the digits one by one.
    code_text = ", ".join(code) if channel.is_call else code
    text = replace_texts(reason_from_json(lead.data["text"]), lambda text: text.replace("{code}", code_text))
    return replace(lead, data={**lead.data, "text": reason_as_json(text)})
