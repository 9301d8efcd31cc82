"""Ready-made escalation policies for common setups, to be used as they are or adapted.

Pure data in the shape of a spec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tocsin.core.reasons import translatable as _

_MAIL = [{"channel": "email"}]
_OFFICE = {"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}


@dataclass(frozen=True, slots=True)
class PolicyTemplate:
    """A template: its key, name, one-sentence description, and a spec without a name."""

    key: str
    name: str
    about: str
    spec: dict[str, Any]


def policy_templates(time_zone: str) -> tuple[PolicyTemplate, ...]:
    """All templates, the most common first. `time_zone` applies to day and night windows."""
    return (
        PolicyTemplate(
            "every-5-minutes",
            _("Primary, secondary, manager"),
            _("Pages the primary immediately, the secondary after 5 minutes and the manager after 10. Repeats once."),
            {
                "repeat": {"times": 1, "every": "10m"},
                "steps": [_roles("primary"), _roles("secondary", after="5m"), _roles("manager", after="5m")],
            },
        ),
        PolicyTemplate(
            "five-tries",
            _("Five retries each"),
            _("Pages each role up to six times, every 5 minutes. The next role is paged after 30 minutes."),
            {
                "steps": [
                    {**_roles("primary"), "retries": {"times": 5, "every": "5m"}},
                    {**_roles("secondary", after="30m"), "retries": {"times": 5, "every": "5m"}},
                    {**_roles("manager", after="30m"), "retries": {"times": 5, "every": "5m"}},
                ]
            },
        ),
        PolicyTemplate(
            "sequential",
            _("One at a time"),
            _("Pages every primary, then every secondary, one every 5 minutes, until someone responds."),
            {
                "repeat": {"times": 2, "every": "5m"},
                "steps": [{**_roles("primary", "secondary"), "sequential": "5m"}],
            },
        ),
        PolicyTemplate(
            "all-hands",
            _("All hands"),
            _("Pages every group member immediately, and again after 10 minutes."),
            {
                "default_priority": "critical",
                "repeat": {"times": 1, "every": "10m"},
                "steps": [{"notify": {"everybody": True}, "after": "0m"}],
            },
        ),
        PolicyTemplate(
            "mail-only",
            _("Email only"),
            _("Emails every group member. No calls or text messages."),
            {
                "default_priority": "low",
                "end": {"then": "nothing"},
                "steps": [{"notify": {"everybody": True}, "after": "0m", "methods": _MAIL}],
            },
        ),
        PolicyTemplate(
            "mail-the-manager",
            _("Email the manager"),
            _("Emails the groups' managers. No calls or text messages."),
            {
                "default_priority": "medium",
                "end": {"then": "nothing"},
                "steps": [{**_roles("manager"), "methods": _MAIL}],
            },
        ),
        PolicyTemplate(
            "mail-by-day",
            _("Email by day, page at night"),
            _(
                "Emails the primary on weekdays from 08:00 to 18:00. At other times, their own "
                "notification rules apply. The secondary follows after 10 minutes."
            ),
            {
                "repeat": {"times": 1, "every": "15m"},
                "steps": [
                    {
                        **_roles("primary"),
                        "name": "by day",
                        "methods": _MAIL,
                        "when": {"between": {**_OFFICE, "time_zone": time_zone}},
                    },
                    {
                        **_roles("primary"),
                        "name": "at night",
                        "when": {"between": {**_OFFICE, "time_zone": time_zone, "outside": True}},
                    },
                    _roles("secondary", after="10m"),
                ],
            },
        ),
        PolicyTemplate(
            "until-taken",
            _("Until assigned"),
            _(
                "Acknowledging does not stop escalation. It continues until the alert is assigned, and "
                "the last step repeats."
            ),
            {
                "acknowledge": {"effect": "continue", "timeout": "30m"},
                "end": {"then": "keep_last_step", "every": "15m"},
                "steps": [
                    _roles("primary"),
                    _roles("secondary", after="5m"),
                    _roles("primary", "secondary", "manager", after="10m"),
                ],
            },
        ),
    )


def _roles(*roles: str, after: str = "0m") -> dict[str, Any]:
    return {"notify": {"roles": list(roles)}, "after": after}
