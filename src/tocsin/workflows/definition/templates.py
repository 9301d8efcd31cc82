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


def workflow_templates(
    group: str = "", call: str = "", policy: str = "", *, has_halo: bool = False
) -> list[WorkflowTemplate]:
    """All templates; `group`, `call` and `policy` name an existing group, HTTP call and policy, or are ""."""
    on_ticket = {"do": "halo", "text": _("Nobody has acknowledged this for 5 minutes; the manager is told.")}
    managers: dict[str, Any] = {"groups": [group], "roles": ["manager"]} if group else {"paged": True}
    live = {"field": "status", "operator": "one of", "value": ["closed", "cancelled", "merged"], "not": True}
    return [
        WorkflowTemplate(
            "unacknowledged",
            _("Not acknowledged in 5 minutes"),
            _("Tells the managers of a group, and notes it on the ticket where there is one."),
            {
                "trigger": {"on": "unacknowledged", "for": "5m"},
                "actions": [
                    {
                        "do": "notify",
                        **managers,
                        "subject": _("Nobody has acknowledged: <subject>"),
                        "text": _("For 5 minutes nobody has acknowledged this.\n\n<client>: <subject>\n<url>"),
                    },
                    *([on_ticket] if has_halo else ()),
                ],
            },
        ),
        WorkflowTemplate(
            "status",
            _("Tell everybody paged when the status changes"),
            _("Whoever was paged hears of every change of the alert's or the ticket's status."),
            {
                "trigger": "status_changed",
                "actions": [
                    {"do": "notify", "paged": True, "subject": "<status>: <subject>", "text": "<what>\n\n<url>"}
                ],
            },
        ),
        WorkflowTemplate(
            "sla",
            _("1 hour before the SLA"),
            _("An hour before the ticket's fix-by time, unless it is over: the owner and the managers are told."),
            {
                "trigger": {"on": "before_sla", "moment": "fix_by", "by": "1h"},
                "actions": [
                    {
                        "do": "notify",
                        **managers,
                        "owner": True,
                        "subject": _("1 hour to the SLA: <subject>"),
                        "text": _(
                            "This must be fixed by <custom.fix_by>.\n\n<client>: <subject>\nWith: <owner>\n<url>"
                        ),
                    }
                ],
            },
        ),
        WorkflowTemplate(
            "respond",
            _("At the respond-by time, nobody has it"),
            _("When a ticket should have been answered and nobody has it, its priority rises, so it pages again."),
            {
                "trigger": {"on": "after_sla", "moment": "respond_by"},
                "start": {"field": "owner", "operator": "exists", "not": True},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "escalate"}],
            },
        ),
        WorkflowTemplate(
            "remind",
            _("Remind the owner every 2 hours"),
            _("As long as an alert with high or critical priority lives."),
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
            _("A VIP's ticket is critical"),
            _("Raises the priority of whatever a VIP reports, so that it pages as critical."),
            {
                "trigger": "opened",
                "start": {"field": "vip", "operator": "one of", "value": ["true", "1", "yes", "vip"]},
                "actions": [{"do": "set_priority", "priority": "critical"}, {"do": "set_tags", "tags": {"vip": "yes"}}],
            },
        ),
        WorkflowTemplate(
            "exhausted",
            _("Nobody answered: start another policy"),
            _("When a policy ends without an answer, another one goes on."),
            {"trigger": "exhausted", "actions": [{"do": "start_policy", **({"policy": policy} if policy else {})}]},
        ),
        WorkflowTemplate(
            "button",
            _("A button that calls another system"),
            _("On every live alert: asks first, makes an HTTP call, and shows what came of it."),
            {
                "trigger": {"on": "manual", "confirm": _("Do it now?")},
                "start": live,
                "actions": [{"do": "call", **({"outbound": call} if call else {})}],
            },
        ),
    ]
