"""Alertmanager posts a whole group of alerts and repeats it; each alert of the group becomes its own message."""

from __future__ import annotations

from tocsin.catalogue.hooks import Headers, Payload

#: Alertmanager's `endsAt` for an alert that has not ended (Go's zero time).
_NEVER = "0001-01-01"

#: One more than the limit of messages per request, so that an oversized request is rejected as a whole.
_MAX_ALERTS = 1001

_SHARED = (
    "receiver",
    "groupKey",
    "externalURL",
    "groupLabels",
    "commonLabels",
    "commonAnnotations",
    "routeLabels",
    "title",
)


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns one message for each alert of the group (webhook version 4): `alert`, plus the fields of the group; the
    group itself, if it lists none.

    `delivery` identifies an alert in one state, so that repeats, also by several Alertmanagers, count as duplicates.
    """
    alerts = payload.get("alerts")
    if not isinstance(alerts, list) or not alerts:
        return [_without_expected_end(payload)]
    shared = {name: payload[name] for name in _SHARED if name in payload}
    # An alert without a status of its own has that of its group.
    status = {"status": payload["status"]} if "status" in payload else {}
    own = [{**status, **alert} if isinstance(alert, dict) else alert for alert in alerts[:_MAX_ALERTS]]
    return [
        {**shared, "alert": _without_placeholder_end(alert), "delivery": _delivery(payload, alert)} for alert in own
    ]


def _without_expected_end(payload: Payload) -> Payload:
    """Returns an alert as Prometheus posts it to Alertmanager's API without `endsAt`, which may be yet to come."""
    if "alert" in payload or "status" in payload or not isinstance(payload.get("labels"), dict):
        return payload
    return {"alert": {name: value for name, value in payload.items() if name != "endsAt"}}


def _without_placeholder_end(alert: object) -> object:
    """Returns the alert without the placeholder `endsAt` of an alert that is still firing."""
    if isinstance(alert, dict) and str(alert.get("endsAt", "")).startswith(_NEVER):
        return {name: value for name, value in alert.items() if name != "endsAt"}
    return alert


def _delivery(payload: Payload, alert: object) -> object:
    if not isinstance(alert, dict) or not alert.get("fingerprint"):
        return None
    ends = alert.get("endsAt") if alert.get("status") == "resolved" else ""
    parts = (payload.get("receiver"), alert["fingerprint"], alert.get("startsAt"), alert.get("status"), ends)
    return "|".join(str(part or "") for part in parts)
