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
            _(
                "Calls the primary at once, the secondary after five minutes, the manager after ten; all of it once "
                "more."
            ),
            {
                "repeat": {"times": 1, "every": "10m"},
                "steps": [_roles("primary"), _roles("secondary", after="5m"), _roles("manager", after="5m")],
            },
        ),
        PolicyTemplate(
            "five-tries",
            _("Five more tries each"),
            _("Calls each up to six times, five minutes apart, before the next role is called half an hour later."),
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
            _("Sequential"),
            _("Goes through everybody who is primary, then secondary, one every five minutes, until somebody answers."),
            {
                "repeat": {"times": 2, "every": "5m"},
                "steps": [{**_roles("primary", "secondary"), "sequential": "5m"}],
            },
        ),
        PolicyTemplate(
            "all-hands",
            _("All hands"),
            _("Calls every member of the groups at once, by all their ways, and again after ten minutes."),
            {
                "default_priority": "critical",
                "repeat": {"times": 1, "every": "10m"},
                "steps": [{"notify": {"everybody": True}, "after": "0m"}],
            },
        ),
        PolicyTemplate(
            "mail-only",
            _("Mail only"),
            _("Mails every member of the groups, and nobody is called or texted."),
            {
                "default_priority": "low",
                "end": {"then": "nothing"},
                "steps": [{"notify": {"everybody": True}, "after": "0m", "methods": _MAIL}],
            },
        ),
        PolicyTemplate(
            "mail-the-manager",
            _("Mail the manager"),
            _("Mails the groups' managers, and nobody is called or texted."),
            {
                "default_priority": "medium",
                "end": {"then": "nothing"},
                "steps": [{**_roles("manager"), "methods": _MAIL}],
            },
        ),
        PolicyTemplate(
            "mail-by-day",
            _("Mail by day, call at night"),
            _(
                "From eight to six on weekdays the primary is mailed; at any other time they are called by their own "
                "ways. The secondary follows after ten minutes."
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
            _("Until somebody takes it"),
            _(
                "Acknowledging stops nobody but the one who did: it goes on until the alert is taken, and the last "
                "step never ends."
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
