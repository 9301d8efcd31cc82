"""Notifications of PagerDuty's agent for Nagios and Icinga (`pagerduty_nagios.pl`), as events of the Events API v1.

The agent posts a form to `/nagios/2010-04-15/create_event`: the macros of the notification without their prefix
(`HOSTNAME`, `SERVICESTATE`, …) and `pd_nagios_object` (`service` or `host`). `CONTACTPAGER` is the routing key. It
deletes what is answered 4xx from its queue, and repeats what is answered 5xx. Pure.

https://www.pagerduty.com/docs/guides/nagios-perl-integration-guide/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Types of notification that say nothing about a problem. Any other type opens, so that none is lost.
_INFORMATION: Final = ("DOWNTIME", "FLAPPING")
_EVENT_TYPES: Final = {"RECOVERY": "resolve", "ACKNOWLEDGEMENT": "acknowledge"}
_SEVERITIES: Final = {"CRITICAL": "critical", "DOWN": "critical", "UNREACHABLE": "critical", "WARNING": "warning"}


def to_event(macros: Mapping[str, object]) -> dict[str, object]:
    """Returns the notification as an event of version 1, with its key as `service_key`."""
    fields = {name: str(value) for name, value in macros.items()}
    service_key = fields.pop("CONTACTPAGER", "")
    host = fields.get("HOSTNAME", "")
    service = fields.get("SERVICEDESC", "") if fields.get("pd_nagios_object") != "host" else ""
    state = fields.get("SERVICESTATE", "") if service else fields.get("HOSTSTATE", "")
    key = f"event_source=service;host_name={host};service_desc={service}"
    output = fields.get("SERVICEOUTPUT") if service else fields.get("HOSTOUTPUT")
    return {
        "service_key": service_key,
        "event_type": _event_type(fields.get("NOTIFICATIONTYPE", "").upper()),
        "incident_key": key if service else f"event_source=host;host_name={host}",
        "description": f"{f'{service} on {host}' if service else host} is {state or 'in trouble'}",
        "client": "Nagios",
        "details": {
            "host": host,
            "severity": _SEVERITIES.get(state.upper(), "error"),
            **({"description": output} if output else {}),
            **fields,
        },
    }


def names_host(event: Mapping[str, object]) -> bool:
    """Returns whether an event that `to_event` made says what it is about."""
    details = event["details"]
    return isinstance(details, Mapping) and bool(details["host"])


def _event_type(notification_type: str) -> str:
    if notification_type.startswith(_INFORMATION):
        return "change"
    return _EVENT_TYPES.get(notification_type, "trigger")
