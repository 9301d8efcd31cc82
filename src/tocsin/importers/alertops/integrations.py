"""Converts AlertOps' inbound integrations, with mappings, rules and filters, which use the same path syntax. Pure."""

from __future__ import annotations

from typing import Any

from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.importers import reasons
from tocsin.importers.alertops import reasons as product_reasons
from tocsin.importers.config_builder import ConfigBuilder
from tocsin.importers.json_access import JsonObject, int_of, object_of, objects_of, text_of
from tocsin.importers.report import FindingSeverity
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.inbound.expressions.comparisons import Operator

_KINDS = {"email": "email", "heartbeat": "heartbeat", "chat": "api", "api": "api"}
_FIELDS = {
    "source_id": "source_id",
    "source_status": "source_status",
    "source_url": "source_url",
    "source_severity": "severity",
    "severity": "severity",
    "assignee": "assignee",
    "subject": "subject",
    "short_text": "short_text",
    "long_text": "long_text",
}
#: Parts of an AlertOps mapping that are not converted.
_NOT_MAPPED = ("recipient_user", "recipient_group", "topic", "custom_alert_fields", "alert_tags", "attachments")
#: The keys of each kind's settings in AlertOps.
_SETTINGS = ("api_settings", "email_settings", "heartbeat_settings", "chat_settings")
#: Advanced settings without an equivalent: their keys, and the finding's text, reason and remedy.
_ADVANCED = (
    (
        ("delaying_rule",),
        product_reasons.OPENS_AT_ONCE(),
        product_reasons.WAITS_THERE(),
        product_reasons.DELAY_ON_ROUTING(),
    ),
    (
        ("grouping_rule",),
        product_reasons.GROUPS_NOTHING(),
        product_reasons.GROUPS_THERE(),
        product_reasons.GROUP_ON_ROUTING(),
    ),
    (
        ("escalation_policy_override", "escalation_policy_overrides", "based_on_time_of_day", "based_on_source_data"),
        product_reasons.ONE_POLICY(),
        product_reasons.OTHER_POLICY_THERE(),
        product_reasons.ADD_ROUTES(),
    ),
    (
        ("dynamic_recipient_groups",),
        product_reasons.SAME_RECIPIENTS(),
        product_reasons.DYNAMIC_GROUPS_THERE(),
        product_reasons.ADD_ROUTES(),
    ),
)
#: The path of Halo's status; the built-in field also covers its other locations.
_HALO_STATUS = "ticket^status^name"
#: In minutes.
_MAX_INTERVAL_MINUTES = 60 * 24 * 365
_OPERATORS = {str(operator): str(operator) for operator in Operator} | {"regex": "matches", "is": "equals"}


def integrations(
    builder: ConfigBuilder,
    documents: list[JsonObject],
    groups: dict[str, str],
    users: dict[str, str],
    policies: dict[str, str],
) -> None:
    """Adds every inbound integration."""
    for document in documents:
        source_name = text_of(document, "inbound_integration_name", "integration_name", "name")
        name = builder.claim_name("integrations", source_name)
        source_type = text_of(document, "type").lower() or "api"
        is_halo = source_type == "api" and "halo" in source_name.lower()
        kind = "haloitsm" if is_halo else _KINDS.get(source_type, "api")
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        recipients = {
            "groups": _recipient_names(
                builder, document.get("recipient_groups"), groups, reasons.INTEGRATION(integration=name)
            ),
            "users": _recipient_names(
                builder, document.get("recipient_users"), users, reasons.INTEGRATION(integration=name)
            ),
        }
        entry["recipients"] = {key: names for key, names in recipients.items() if names}
        policy = policies.get(text_of(document, "escalation_policy", "escalation_policy_name").casefold())
        # A policy with roles reaches nobody without a group.
        entry |= {"escalation_policy": policy} if policy else {}
        if policy is None or not recipients["groups"]:
            entry["anyway"] = True
            builder.report_grouped(
                FindingSeverity.TO_DO,
                "integrations",
                name,
                product_reasons.NO_POLICY_OR_GROUP(),
                product_reasons.POLICY_OR_RECIPIENTS_MISSING(),
                product_reasons.CHOOSE_BOTH(),
            )
        entry |= _kind_settings(builder, kind, document, reasons.INTEGRATION(integration=name))
        builder.add("integrations", entry)
        builder.report_grouped(
            FindingSeverity.TO_DO,
            "integrations",
            name,
            reasons.WAIT_FOR_SENDERS(),
            product_reasons.STILL_SEND(),
            product_reasons.CHANGE_TO_OVERVIEW_URL(),
        )


def _kind_settings(builder: ConfigBuilder, kind: str, document: JsonObject, subject: Reason) -> dict[str, Any]:
    """The kind-specific part of the entry; reports what has no equivalent."""
    settings = {key: object_of(document.get(key)) for key in _SETTINGS}
    for keys, difference, reason, remedy in _ADVANCED:
        if any(_is_used(section.get(key)) for section in (document, *settings.values()) for key in keys):
            builder.report_omitted(subject, difference, reason, remedy)
    match kind:
        case "heartbeat":
            interval = int_of(settings["heartbeat_settings"], "heartbeat_interval_in_min")
            return {"settings": {"interval": f"{interval}m"}} if 0 < interval <= _MAX_INTERVAL_MINUTES else {}
        case "email":
            email = settings["email_settings"]
            if any(
                _is_used(section.get("open_alert_when")) for section in (email, object_of(email.get("url_mapping")))
            ):
                builder.report_omitted(
                    subject,
                    product_reasons.OPENS_FOR_EVERY_EMAIL(),
                    product_reasons.MARKERS_THERE(),
                    product_reasons.SET_RULES(),
                )
            return {}
        case _:
            return _definition(builder, kind, settings["api_settings"], subject)


def _is_used(value: object) -> bool:
    """Whether an advanced setting has any effect: a non-empty list, or an object that is enabled."""
    if isinstance(value, dict):
        switches = [value[key] for key in ("delay", "group") if key in value]
        return any(switches) if switches else any(_is_used(item) for item in value.values())
    return bool(value)


def _definition(builder: ConfigBuilder, kind: str, settings: JsonObject, subject: Reason) -> dict[str, Any]:
    """Custom mapping, rules and filters; omitted if they cannot be compiled."""
    mapping = object_of(settings.get("url_mapping"))
    definition: dict[str, Any] = {}
    # The built-in kind reads Halo's tickets better than a manual mapping.
    fields = {
        field_name: _value(text)
        for source_field, field_name in _FIELDS.items()
        if (text := text_of(mapping, source_field))
    }
    if fields and kind == "api":
        definition["mapping"] = fields
    for name in (name for name in _NOT_MAPPED if _is_used(mapping.get(name))):
        builder.report_omitted(
            subject,
            product_reasons.FIELD_NOT_MAPPED(field=name),
            product_reasons.IS_NOT_IMPORTED(),
            product_reasons.MAP_FIELD(),
        )
    # AlertOps compares letters. For the usual statuses the kind's own rule, which reads words, means the same.
    default_rules = load_kinds()[kind].rules
    if rules := {
        name: rule
        for name, rule in _rules(builder, mapping, subject).items()
        if default_rules.get(name) not in (rule, {**rule, "words": True})
    }:
        definition["rules"] = rules
    filter_groups = (_filter(builder, settings, mode, subject) for mode in ("all", "any"))
    filters = [filter_group for filter_group in filter_groups if filter_group]
    if filters:
        definition["filters"] = {"all": filters}
    if not definition:
        return {}
    try:
        compile_normalizer(load_kinds()[kind], IntegrationDefinition(**{"settings": {}, **definition}))
    except (Rejected, TypeError, ValueError, KeyError) as problem:
        unusable = problem.reason if isinstance(problem, Rejected) else str(problem)[:200]
        builder.report_omitted(
            subject,
            product_reasons.NO_OWN_MAPPING(),
            product_reasons.MAPPING_UNUSABLE(problem=unusable),
            product_reasons.MAP_FIRST_MESSAGE(),
        )
        return {}
    return definition


def _rules(builder: ConfigBuilder, mapping: JsonObject, subject: Reason) -> dict[str, Any]:
    """The open and close rules. Only the open rule names a field, which the close rule shares."""
    field = text_of(object_of(mapping.get("open_alert_when")), "field_name")
    field_expression = f"^{field}" if field and field.casefold() != _HALO_STATUS else "source_status"
    rules: dict[str, Any] = {}
    for name in ("open", "close"):
        rule = object_of(mapping.get(f"{name}_alert_when"))
        raw_values = rule.get("values")
        values = [str(value) for value in raw_values if str(value).strip()] if isinstance(raw_values, list) else []
        operator = _OPERATORS.get(text_of(rule, "type").lower().replace("_", " "))
        if values and operator and (name == "open" or "open" in rules):
            conditions = [{"field": field_expression, "operator": operator, "value": value} for value in values]
            rules[name] = conditions[0] if len(conditions) == 1 else {"any": conditions}
        elif values:
            builder.report_omitted(
                subject,
                product_reasons.OWN_RULE_OMITTED(
                    action=name, operator=text_of(rule, "type"), values=", ".join(values)[:100]
                ),
                product_reasons.NO_SUCH_RULE(),
                product_reasons.SET_RULE(),
            )
    return rules


def _value(text: str) -> dict[str, str]:
    """A path, or a template if the text contains angle brackets."""
    return {"template": text} if "<" in text else {"path": text}


def _filter(builder: ConfigBuilder, settings: JsonObject, mode: str, subject: Reason) -> dict[str, Any]:
    conditions = []
    for item in objects_of(object_of(settings.get(f"add_{mode}_filter")).get("filters")):
        condition = object_of(item.get("condition"))
        source_operator, field = text_of(condition, "type"), text_of(condition, "field_name")
        operator = _OPERATORS.get(source_operator.lower().replace("_", " "))
        if operator and field:
            leaf: dict[str, Any] = {"field": f"^{field}", "operator": operator}
            if operator != Operator.EXISTS:
                leaf["value"] = text_of(condition, "value")
            conditions.append(leaf | ({"not": True} if item.get("not") is True else {}))
        elif field or source_operator:
            builder.report_omitted(
                subject,
                product_reasons.FILTER_OMITTED(
                    field=field or "nothing", condition=f"{source_operator} {text_of(condition, 'value')}".strip()[:100]
                ),
                product_reasons.NO_SUCH_COMPARISON(),
                product_reasons.ADD_FILTER(),
            )
    return {mode: conditions} if conditions else {}


def _recipient_names(builder: ConfigBuilder, recipients: object, names: dict[str, str], subject: Reason) -> list[str]:
    """The names of the imported recipients, without duplicates."""
    items = recipients if isinstance(recipients, list) else []
    source_names = [
        text_of(item, "group_name", "user_name", "name") if isinstance(item, dict) else str(item) for item in items
    ]
    for missing in (item for item in source_names if item.casefold() not in names):
        builder.report_omitted(
            subject,
            reasons.DOES_NOT_NOTIFY(target=missing[:100] or "somebody"),
            reasons.UNKNOWN_HERE(),
            product_reasons.CHOOSE_RECIPIENT(),
        )
    return list(dict.fromkeys(names[item.casefold()] for item in source_names if item.casefold() in names))
