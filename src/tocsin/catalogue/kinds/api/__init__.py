"""A body of any tool may list several alerts: each is a message of its own, with what the body says of all."""

from __future__ import annotations

import re
from typing import Final

from tocsin.catalogue.hooks import Headers, Payload

#: The names of such a list; others may be details of the one alert that a body has a title for.
_ALERTS: Final = ("alerts", "alarms", "incidents", "problems")
_MAYBE_ALERTS: Final = ("events", "issues", "notifications", "findings", "records", "items", "results", "data")
_TITLES: Final = frozenset({"title", "subject", "summary", "name", "message", "text", "description", "headline"})
#: What each of several alerts says.
_SAYS: Final = _TITLES | {"alert", "check", "event", "labels", "problem", "rule", "state", "status"}
#: What is not the same for all of them.
_OF_ONE: Final = re.compile(r"(?i).*(id|key|uuid|guid|fingerprint|alias|title|subject|summary|name|message|text)")
#: One more than the limit of messages per request, so that an oversized request is rejected as a whole.
_MAX_ALERTS: Final = 1001


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns a message for each alert of a list of several, with the plain values around it that are not of one."""
    folded = {name.casefold(): name for name in payload}
    names = _ALERTS if not _TITLES.isdisjoint(folded) else (*_ALERTS, *_MAYBE_ALERTS)
    for name in names:
        alerts = payload.get(folded.get(name, ""))
        if not isinstance(alerts, list) or len(alerts) < 2:
            continue
        told = [alert for alert in alerts[:_MAX_ALERTS] if isinstance(alert, dict) and _says_something(alert)]
        if len(told) == len(alerts[:_MAX_ALERTS]):
            shared = {
                key: value
                for key, value in payload.items()
                if not isinstance(value, dict | list) and not _OF_ONE.fullmatch(key)
            }
            return [{**shared, **alert} for alert in told]
    return [payload]


def _says_something(alert: Payload) -> bool:
    folded = {name.casefold() for name in alert}
    # An alert that lists others would be split again when it is replayed.
    return not folded.isdisjoint(_SAYS) and folded.isdisjoint((*_ALERTS, *_MAYBE_ALERTS))
