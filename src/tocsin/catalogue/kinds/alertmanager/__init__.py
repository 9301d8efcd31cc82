"""Alertmanager posts a group of alerts at a time, again and again; each alert of it is a message of its own."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload

#: Alertmanager's way of saying "not over yet".
_NEVER = "0001-01-01"

#: One more than one request may have: what comes after is refused with it.
_MAX_ALERTS = 1001

_SHARED = ("receiver", "groupKey", "externalURL", "groupLabels", "commonLabels", "commonAnnotations", "routeLabels")


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """One message for each alert of the group (webhook version 4): `alert` with what it shares with the others.

    The same alert in the same state is the same delivery, however often each of several Alertmanagers repeats it.
    """
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        return [payload]
    shared = {name: payload[name] for name in _SHARED if name in payload}
    return [
        {**shared, "alert": _marked(alert), "delivery": _delivery(payload, alert)} for alert in alerts[:_MAX_ALERTS]
    ]


def _marked(alert: object) -> object:
    """The alert, without the end that it has not reached."""
    if isinstance(alert, dict) and str(alert.get("endsAt", "")).startswith(_NEVER):
        return {name: value for name, value in alert.items() if name != "endsAt"}
    return alert


def _delivery(payload: Payload, alert: object) -> object:
    if not isinstance(alert, dict) or not alert.get("fingerprint"):
        return None
    ends = alert.get("endsAt") if alert.get("status") == "resolved" else ""
    parts = (payload.get("receiver"), alert["fingerprint"], alert.get("startsAt"), alert.get("status"), ends)
    return "|".join(str(part or "") for part in parts)
