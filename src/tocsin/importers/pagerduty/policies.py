"""Converts PagerDuty's escalation policies. A rule's delay is the time before the next rule. Pure.

See https://support.pagerduty.com/main/docs/escalation-policies: after the last rule's delay the policy starts over,
`num_loops` times.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from tocsin.core.reasons import Reason
from tocsin.core.validation import durations
from tocsin.escalation.policy.policy import MAX_POLICY_REPEATS, MAX_STEPS
from tocsin.importers import reasons
from tocsin.importers.json_access import JsonObject, object_of, objects_of
from tocsin.importers.pagerduty import reasons as product_reasons
from tocsin.importers.pagerduty.id_map import PagerdutyIdMap, id_of, owner_group, reference_label, resolve


def policies(id_map: PagerdutyIdMap, documents: list[JsonObject], services: list[JsonObject]) -> None:
    """Adds every policy that notifies somebody. The acknowledgement timeout comes from the services that use it."""
    for document in documents:
        using_services = [
            service
            for service in services
            if object_of(service.get("escalation_policy")).get("id") == document.get("id")
        ]
        _policy(id_map, document, using_services)


def _policy(id_map: PagerdutyIdMap, document: JsonObject, services: list[JsonObject]) -> None:
    source_name = str(document.get("name") or "")
    subject = reasons.POLICY(policy=source_name)
    steps: list[dict[str, Any]] = []
    elapsed = previous = delay = timedelta()
    first_delay: timedelta | None = None
    for position, rule in enumerate(objects_of(document.get("escalation_rules")), 1):
        elapsed += delay
        delay = _minutes(rule.get("escalation_delay_in_minutes"))
        notify = _notify_targets(id_map, rule, product_reasons.POLICY_LEVEL(policy=subject, level=position))
        if notify:
            steps.append({"notify": notify, "after": durations.write(elapsed - previous)})
            previous = elapsed
            first_delay = elapsed if first_delay is None else first_delay
    if not steps:
        id_map.builder.report_omitted(
            subject, reasons.NOT_IMPORTED(), product_reasons.NO_LEVEL_NOTIFIES(), reasons.CREATE_POLICY()
        )
        return
    if len(steps) > MAX_STEPS:
        id_map.builder.report_omitted(subject, reasons.TOO_MANY_STEPS(count=MAX_STEPS), reasons.STEP_LIMIT())
    name = id_map.builder.claim_name("escalation_policies", source_name)
    # Skipped levels at the end still add to the delay after the last step.
    end = elapsed + delay - previous or timedelta(minutes=5)
    entry: dict[str, Any] = {
        "name": name,
        "group": owner_group(id_map, document),
        "acknowledge": _acknowledge(id_map, services, subject),
        "end_after": durations.write(end),
    }
    loops = document.get("num_loops")
    if isinstance(loops, int) and loops > 0:
        entry["repeat"] = {
            "times": min(loops, MAX_POLICY_REPEATS),
            "every": durations.write(end + (first_delay or timedelta())),
        }
    id_map.builder.add("escalation_policies", entry | {"steps": steps[:MAX_STEPS]})
    id_map.policies[id_of(document)] = name


def _notify_targets(id_map: PagerdutyIdMap, rule: JsonObject, subject: Reason) -> dict[str, list[str]]:
    notify: dict[str, list[str]] = {}
    for target in objects_of(rule.get("targets")):
        kind = str(target.get("type") or "").removesuffix("_reference")
        key, names = ("schedules", id_map.schedules) if kind == "schedule" else ("users", id_map.users)
        name = resolve(names, target)
        if name is None:
            id_map.builder.report_omitted(
                subject,
                reasons.DOES_NOT_NOTIFY_KIND(kind=kind or "somebody", target=reference_label(target)),
                reasons.UNKNOWN_HERE(),
                product_reasons.ADD_TO_STEP(),
            )
        elif name not in notify.get(key, []):
            notify.setdefault(key, []).append(name)
    strategy = object_of(rule.get("escalation_rule_assignment_strategy")).get("type")
    if strategy == "round_robin" and sum(map(len, notify.values())) > 1:
        id_map.builder.report_changed(
            subject,
            product_reasons.NOTIFIES_EVERYBODY(),
            product_reasons.ROUND_ROBIN_THERE(),
            reasons.USE_ROTATION(),
        )
    return notify


def _acknowledge(id_map: PagerdutyIdMap, services: Iterable[JsonObject], subject: Reason) -> dict[str, str]:
    """The shortest acknowledgement timeout of the services; empty if they have none, which means 30 minutes."""
    timeouts = [service.get("acknowledgement_timeout") for service in services]
    valid_timeouts = {seconds for seconds in timeouts if isinstance(seconds, int) and 0 < seconds < 10**8}
    if None in timeouts and timeouts:
        id_map.builder.report_changed(
            subject,
            product_reasons.ASKS_AGAIN(),
            product_reasons.NO_TIMEOUT_THERE(),
            reasons.EXTEND_TIMEOUT(),
        )
    if len(valid_timeouts) > 1:
        id_map.builder.report_changed(subject, product_reasons.SHORTEST_TIMEOUT(), product_reasons.TIMEOUT_OF_POLICY())
    return {"timeout": durations.write(timedelta(seconds=min(valid_timeouts)))} if valid_timeouts else {}


def _minutes(value: object) -> timedelta:
    return timedelta(minutes=value) if isinstance(value, int) and 0 < value < 100_000 else timedelta()
