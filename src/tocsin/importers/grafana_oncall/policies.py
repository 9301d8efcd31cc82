"""Converts OnCall's escalation chains to policies; wait steps become the delays of the following steps. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_STEPS
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, id_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import FindingSeverity

#: OnCall repeats a chain exactly this often.
_REPEATS = 5
_MINUTE = timedelta(minutes=1)

#: Steps without an equivalent: the reason and the remedy.
_UNSUPPORTED = {
    "notify_if_time_from_to": (
        "It waits there until a time of day; steps here fire when they are due.",
        "Give the integration a route for support hours, if nights are to be quiet.",
    ),
    "notify_if_num_alerts_in_window": ("It waits there for more alerts.", "Delay or group on the integration instead."),
    "trigger_webhook": ("It calls a webhook.", "Make an outbound integration."),
    "trigger_action": ("It calls a webhook.", "Make an outbound integration."),
    "resolve": ("It closes the alert; here an alert that nobody answered is never closed by itself.", ""),
    "notify_user_group": ("It notifies a user group of Slack.", "Make a group, and notify everybody in it."),
    "notify_whole_channel": ("It notifies a channel of Slack.", "Make the channel a group contact, and name that."),
    "declare_incident": ("It declares an incident in Grafana.", "Make an outbound integration."),
}


def policies(id_map: GrafanaIdMap, chains: list[JsonObject], source_steps: list[JsonObject]) -> None:
    """Adds every chain that notifies somebody."""
    for chain in chains:
        chain_steps = [item for item in source_steps if item.get("escalation_chain_id") == chain.get("id")]
        _policy(id_map, chain, sorted(chain_steps, key=lambda item: _non_negative_int(item.get("position"))))


def _policy(id_map: GrafanaIdMap, chain: JsonObject, source_steps: list[JsonObject]) -> None:
    builder, chain_name = id_map.builder, str(chain.get("name") or "")
    steps: list[dict[str, Any]] = []
    elapsed = previous = timedelta()
    first_delay: timedelta | None = None
    repeat_delay: timedelta | None = None
    for position, source_step in enumerate(source_steps, 1):
        kind, subject = str(source_step.get("type") or ""), f"chain {chain_name}: step {position}"
        if kind == "wait":
            elapsed += timedelta(seconds=_non_negative_int(source_step.get("duration")))
        elif kind == "repeat_escalation":
            repeat_delay = elapsed
            break
        elif notify := _notify_targets(id_map, source_step, kind, subject):
            steps.append({"notify": notify, "after": durations.write(elapsed - previous)})
            previous, first_delay = elapsed, elapsed if first_delay is None else first_delay
            if source_step.get("important"):
                builder.report_grouped(
                    FindingSeverity.CHANGED,
                    "chains",
                    chain_name,
                    "page by everybody's ordinary ways",
                    "Steps of them are important there, and use each person's important rules.",
                    "Name ways on the steps, or set notification rules by priority.",
                )
    if not steps:
        builder.report_omitted(
            f"chain {chain_name}",
            "is not here",
            "No step of it notifies anybody who is here.",
            "Make a policy in its place.",
        )
        return
    if len(steps) > MAX_STEPS:
        builder.report_omitted(f"chain {chain_name}", f"ends after {MAX_STEPS} steps", "A policy has no more of them.")
    entry: dict[str, Any] = {
        "name": builder.claim_name("escalation_policies", chain_name),
        "group": id_map.group(chain),
    }
    if repeat_delay is not None:
        interval = max(_MINUTE, repeat_delay - previous + (first_delay or timedelta()))
        entry["repeat"] = {"times": _REPEATS, "every": durations.write(interval)}
    builder.report_ack_timeout("chains", chain_name)
    builder.add("escalation_policies", entry | {"steps": steps[:MAX_STEPS]})
    id_map.policies[id_of(chain)] = entry["name"]


def _notify_targets(id_map: GrafanaIdMap, source_step: JsonObject, kind: str, subject: str) -> dict[str, Any]:
    builder = id_map.builder
    match kind:
        case "notify_persons":
            users = id_map.known_usernames(source_step.get("persons_to_notify"))
        case "notify_person_next_each_time":
            users = id_map.known_usernames(source_step.get("persons_to_notify_next_each_time"))
            builder.report_changed(
                subject,
                "notifies all of them at once",
                "OnCall takes the next in turn for each alert; a step here does not.",
                "Let it go one by one, or put them into a rotation.",
            )
        case "notify_on_call_from_schedule":
            schedule = id_map.schedules.get(str(source_step.get("notify_on_call_from_schedule") or ""))
            if schedule is not None:
                return {"schedules": [schedule]}
            users = []
        case "notify_team_members":
            group = id_map.groups.get(
                str(source_step.get("notify_to_team_members") or source_step.get("team_to_notify") or "")
            )
            if group is not None:
                return {"groups": [group], "everybody": True}
            users = []
        case _:
            reason, remedy = _UNSUPPORTED.get(kind, (f"There is nothing like {kind[:60] or 'it'} here.", ""))
            builder.report_omitted(subject, "is not in the policy", reason, remedy)
            return {}
    if users:
        return {"users": users}
    builder.report_omitted(
        subject, "is not in the policy", "Whoever it notifies is not here.", "Add whoever it is to be to the policy."
    )
    return {}


def _non_negative_int(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 10**8 else 0
