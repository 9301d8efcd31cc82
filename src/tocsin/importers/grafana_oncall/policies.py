"""Converts OnCall's escalation chains to policies; wait steps become the delays of the following steps. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_STEPS
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, number_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import FindingSeverity

#: OnCall repeats a chain exactly this often.
_REPEATS = 5
_MINUTE = timedelta(minutes=1)

#: Steps without an equivalent: the reason and the remedy.
_WITHOUT = {
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


def policies(world: GrafanaIdMap, chains: list[JsonObject], several: list[JsonObject]) -> None:
    """Adds every chain that notifies somebody."""
    for chain in chains:
        own = [one for one in several if one.get("escalation_chain_id") == chain.get("id")]
        _policy(world, chain, sorted(own, key=lambda one: _whole(one.get("position"))))


def _policy(world: GrafanaIdMap, chain: JsonObject, several: list[JsonObject]) -> None:
    draft, wanted = world.draft, str(chain.get("name") or "")
    steps: list[dict[str, Any]] = []
    at = before = timedelta()
    first: timedelta | None = None
    repeats_at: timedelta | None = None
    for number, one in enumerate(several, 1):
        kind, subject = str(one.get("type") or ""), f"chain {wanted}: step {number}"
        if kind == "wait":
            at += timedelta(seconds=_whole(one.get("duration")))
        elif kind == "repeat_escalation":
            repeats_at = at
            break
        elif notify := _notified(world, one, kind, subject):
            steps.append({"notify": notify, "after": durations.write(at - before)})
            before, first = at, at if first is None else first
            if one.get("important"):
                draft.together(
                    FindingSeverity.CHANGED,
                    "chains",
                    wanted,
                    "page by everybody's ordinary ways",
                    "Steps of them are important there, and use each person's important rules.",
                    "Name ways on the steps, or set notification rules by priority.",
                )
    if not steps:
        draft.leave_out(
            f"chain {wanted}",
            "is not here",
            "No step of it notifies anybody who is here.",
            "Make a policy in its place.",
        )
        return
    if len(steps) > MAX_STEPS:
        draft.leave_out(f"chain {wanted}", f"ends after {MAX_STEPS} steps", "A policy has no more of them.")
    entry: dict[str, Any] = {"name": draft.name("escalation_policies", wanted), "group": world.group(chain)}
    if repeats_at is not None:
        every = max(_MINUTE, repeats_at - before + (first or timedelta()))
        entry["repeat"] = {"times": _REPEATS, "every": durations.write(every)}
    draft.acknowledgements_run_out("chains", wanted)
    draft.add("escalation_policies", entry | {"steps": steps[:MAX_STEPS]})
    world.policies[number_of(chain)] = entry["name"]


def _notified(world: GrafanaIdMap, one: JsonObject, kind: str, subject: str) -> dict[str, Any]:
    draft = world.draft
    match kind:
        case "notify_persons":
            users = world.known(one.get("persons_to_notify"))
        case "notify_person_next_each_time":
            users = world.known(one.get("persons_to_notify_next_each_time"))
            draft.change(
                subject,
                "notifies all of them at once",
                "OnCall takes the next in turn for each alert; a step here does not.",
                "Let it go one by one, or put them into a rotation.",
            )
        case "notify_on_call_from_schedule":
            schedule = world.schedules.get(str(one.get("notify_on_call_from_schedule") or ""))
            if schedule is not None:
                return {"schedules": [schedule]}
            users = []
        case "notify_team_members":
            group = world.groups.get(str(one.get("notify_to_team_members") or one.get("team_to_notify") or ""))
            if group is not None:
                return {"groups": [group], "everybody": True}
            users = []
        case _:
            why, remedy = _WITHOUT.get(kind, (f"There is nothing like {kind[:60] or 'it'} here.", ""))
            draft.leave_out(subject, "is not in the policy", why, remedy)
            return {}
    if users:
        return {"users": users}
    draft.leave_out(
        subject, "is not in the policy", "Whoever it notifies is not here.", "Add whoever it is to be to the policy."
    )
    return {}


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 10**8 else 0
