"""Ready-made workflows for common needs. Pure: specs that refer only to existing objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.core.reasons import translatable as _


@dataclass(frozen=True, slots=True)
class WorkflowTemplate:
    """A workflow template."""

    key: str
    name: str
    about: str
    spec: Mapping[str, Any]


def workflow_templates(call: str = "", policy: str = "", *, has_halo: bool = False) -> list[WorkflowTemplate]:
    """All templates; `call` and `policy` name an existing HTTP call and policy, or are ""."""
    on_ticket = {"do": "halo", "text": _("Not acknowledged for 5 minutes. The manager has been notified.")}
    live = {"field": "status", "operator": "one of", "value": ["closed", "cancelled", "merged"], "not": True}
    return [
        WorkflowTemplate(
            "unacknowledged",
            _("Not acknowledged in 5 minutes"),
            _("Notifies the managers of the alert's groups and adds a note to the ticket."),
            {
                "trigger": {"on": "unacknowledged", "for": "5m"},
                "actions": [
                    {
                        "do": "notify",
                        "managers": True,
                        "subject": _("Not acknowledged: <subject>"),
                        "text": _("Not acknowledged for 5 minutes.\n\n<client>: <subject>\n<url>"),
                    },
                    *([on_ticket] if has_halo else ()),
                ],
            },
        ),
        WorkflowTemplate(
            "status",
            _("Notify everyone paged when the status changes"),
            _("Notifies everyone who was paged of each alert or ticket status change."),
            {
                "trigger": "status_changed",
                "actions": [
                    {"do": "notify", "paged": True, "subject": "<status>: <subject>", "text": "<what>\n\n<url>"}
                ],
            },
        ),
        WorkflowTemplate(
            "sla",
            _("1 hour before the SLA deadline"),
            _("Notifies the assignee and the managers one hour before the ticket's fix-by time."),
            {
                "trigger": {"on": "before_sla", "moment": "fix_by", "by": "1h"},
                "actions": [
                    {
                        "do": "notify",
                        "managers": True,
                        "owner": True,
                        "subject": _("SLA due in 1 hour: <subject>"),
                        "text": _(
                            "This must be fixed by <custom.fix_by>.\n\n<client>: <subject>\nWith: <owner>\n<url>"
                        ),
                    }
                ],
            },
        ),
        WorkflowTemplate(
            "respond",
            _("Unassigned at the respond-by time"),
            _("Raises the priority and pages again if a ticket is unassigned at its respond-by time."),
            {
                "trigger": {"on": "after_sla", "moment": "respond_by"},
                "start": {"field": "owner", "operator": "exists", "not": True},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "escalate"}],
            },
        ),
        WorkflowTemplate(
            "remind",
            _("Remind the assignee every 2 hours"),
            _("While a high or critical alert is active."),
            {
                "trigger": {"on": "every", "every": "2h"},
                "start": {
                    "all": [
                        {"field": "owner", "operator": "exists"},
                        {"field": "priority", "operator": "one of", "value": ["critical", "high"]},
                    ]
                },
                "actions": [{"do": "notify", "owner": True, "subject": _("Still open: <subject>")}],
            },
        ),
        WorkflowTemplate(
            "vip",
            _("Make VIP tickets critical"),
            _("Sets alerts reported by a VIP to critical."),
            {
                "trigger": "opened",
                "start": {"field": "vip", "operator": "one of", "value": ["true", "1", "yes", "vip"]},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "set_tags", "tags": {"vip": "yes"}}],
            },
        ),
        WorkflowTemplate(
            "exhausted",
            _("Escalation exhausted: start another policy"),
            _("Starts another policy when the first is exhausted."),
            {"trigger": "exhausted", "actions": [{"do": "start_policy", **({"policy": policy} if policy else {})}]},
        ),
        WorkflowTemplate(
            "button",
            _("Button that calls another system"),
            _("On every active alert: asks for confirmation, sends an HTTP request and shows the result."),
            {
                "trigger": {"on": "manual", "confirm": _("Run it now?")},
                "start": live,
                "actions": [{"do": "call", **({"outbound": call} if call else {})}],
            },
        ),
    ]
