"""Converts OnCall's escalation chains to policies; wait steps become the delays of the following steps. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tocsin.core.reasons import NO_REASON, Reason
from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_STEPS
from tocsin.importers import reasons
from tocsin.importers.grafana_oncall import reasons as product_reasons
from tocsin.importers.grafana_oncall.id_map import GrafanaIdMap, id_of
from tocsin.importers.json_access import JsonObject
from tocsin.importers.report import FindingSeverity

#: OnCall repeats a chain exactly this often.
_REPEATS = 5
_MINUTE = timedelta(minutes=1)

#: Steps without an equivalent: the reason and the remedy.
_UNSUPPORTED: Mapping[str, tuple[Reason, Reason]] = {
    "notify_if_time_from_to": (
        product_reasons.WAITS_FOR_TIME(),
        product_reasons.ADD_SUPPORT_HOURS_ROUTE(),
    ),
    "notify_if_num_alerts_in_window": (product_reasons.WAITS_FOR_ALERTS(), product_reasons.DELAY_OR_GROUP()),
    "trigger_webhook": (product_reasons.CALLS_WEBHOOK(), product_reasons.CREATE_OUTBOUND_INTEGRATION()),
    "trigger_action": (product_reasons.CALLS_WEBHOOK(), product_reasons.CREATE_OUTBOUND_INTEGRATION()),
    "resolve": (product_reasons.CLOSES_ALERT(), NO_REASON),
    "notify_user_group": (product_reasons.NOTIFIES_SLACK_GROUP(), product_reasons.CREATE_GROUP()),
    "notify_whole_channel": (product_reasons.NOTIFIES_SLACK_CHANNEL(), product_reasons.CREATE_GROUP_CONTACT()),
    "declare_incident": (product_reasons.DECLARES_INCIDENT(), product_reasons.CREATE_OUTBOUND_INTEGRATION()),
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
        kind, subject = str(source_step.get("type") or ""), product_reasons.CHAIN_STEP(chain=chain_name, step=position)
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
                    product_reasons.NO_IMPORTANT_RULES(),
                    product_reasons.IMPORTANT_THERE(),
                    product_reasons.SET_METHODS(),
                )
    if not steps:
        builder.report_omitted(
            product_reasons.CHAIN(chain=chain_name),
            reasons.NOT_IMPORTED(),
            product_reasons.NO_STEP_NOTIFIES(),
            reasons.CREATE_POLICY(),
        )
        return
    if len(steps) > MAX_STEPS:
        builder.report_omitted(
            product_reasons.CHAIN(chain=chain_name), reasons.TOO_MANY_STEPS(count=MAX_STEPS), reasons.STEP_LIMIT()
        )
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


def _notify_targets(id_map: GrafanaIdMap, source_step: JsonObject, kind: str, subject: Reason) -> dict[str, Any]:
    builder = id_map.builder
    match kind:
        case "notify_persons":
            users = id_map.known_usernames(source_step.get("persons_to_notify"))
        case "notify_person_next_each_time":
            users = id_map.known_usernames(source_step.get("persons_to_notify_next_each_time"))
            builder.report_changed(
                subject,
                product_reasons.NOTIFIES_ALL(),
                product_reasons.ROUND_ROBIN_THERE(),
                reasons.USE_ROTATION(),
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
            reason, remedy = _UNSUPPORTED.get(kind, (product_reasons.NO_EQUIVALENT(kind=kind[:60] or "it"), NO_REASON))
            builder.report_omitted(subject, product_reasons.NOT_IN_POLICY(), reason, remedy)
            return {}
    if users:
        return {"users": users}
    builder.report_omitted(
        subject, product_reasons.NOT_IN_POLICY(), product_reasons.TARGETS_MISSING(), product_reasons.ADD_TO_POLICY()
    )
    return {}


def _non_negative_int(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 10**8 else 0
