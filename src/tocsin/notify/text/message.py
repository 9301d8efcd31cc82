"""Builds the message of a bundle of deliveries, with its links. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.rules.bundling import DeliveryBundle
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text.phrases import phrase

#: Returns the URL where a user (None: anyone who signs in) can act on an alert: `(alert_id, user_id) → url`.
type LinkTo = Callable[[int, int | None], str]


def message(bundle: DeliveryBundle, link_to: LinkTo, home: str, now: datetime, *, can_reply: bool) -> Message:
    """Returns the message of `bundle`. `home` is Tocsin's public address."""
    lead = bundle.lead
    # An alert with several pages in the bundle is named once.
    alerts = {due.alert.id: due for due in bundle.members if due.alert is not None}
    several = len(alerts) > 1
    # The most urgent alerts come first. If there is no room for all, the least urgent are left out.
    named = sorted(alerts.values(), key=lambda due: due.alert.priority.rank if due.alert else 0)
    named = named[: bundle.named or None]
    title, text = str(lead.data.get("title", "")), str(lead.data.get("text", ""))
    if several and lead.purpose is Purpose.NOTICE:
        title, text = _headed(alerts.values(), lead.language)
    return Message(
        notification_id=lead.notification_id,
        purpose=lead.purpose,
        at=now,
        recipient=lead.user_name,
        time_zone=lead.time_zone,
        alerts=tuple(shown for due in named if (shown := _alert(due, link_to)) is not None),
        title=title,
        text=text,
        reason="" if several else lead.why,
        home=f"{home}/alerts" if several else home,
        can_reply=can_reply,
        language=lead.language,
        more=len(alerts) - len(named),
    )


def _headed(members: Collection[DueDelivery], language: str) -> tuple[str, str]:
    """Returns the title and text of several notices, such as "Nobody answered: 160 alerts"."""
    counts: dict[str, int] = {}
    for due in members:
        heading = str(due.data.get("heading", ""))
        counts[heading] = counts.get(heading, 0) + 1
    title = ", ".join(
        f"{heading}: {phrase(language, '{count} alert' if count == 1 else '{count} alerts', count=count)}"
        for heading, count in counts.items()
    )
    return title, "\n".join(dict.fromkeys(str(due.data.get("text", "")) for due in members))


def _alert(due: DueDelivery, link_to: LinkTo) -> AlertContent | None:
    alert = due.alert
    if alert is None:
        return None
    acts = due.purpose in (Purpose.PAGE, Purpose.STILL_ON_IT)
    return AlertContent(
        id=alert.id,
        priority=alert.priority,
        subject=alert.subject,
        short_text=alert.short_text,
        long_text=alert.long_text or str(alert.custom.get("details", "")),
        client=alert.client,
        site=alert.site,
        team=alert.team,
        source=alert.source,
        source_id=alert.source_id,
        source_url=alert.source_url,
        requester=alert.requester,
        requester_phone=alert.requester_phone,
        is_vip=str(alert.custom.get("vip", "")).lower() in ("true", "1", "yes"),
        is_test=alert.is_test,
        count=alert.count,
        opened_at=alert.opened_at,
        link=link_to(alert.id, due.user_id if acts else None),
        news=str(due.data.get("news", "")),
    )
