"""AlertOps' inbound integrations. Its paths are written as ours are, so mappings, rules and filters are carried over.
Pure."""

from __future__ import annotations

from typing import Any

from tocsin.catalogue.kinds import load_kinds
from tocsin.configure.imports.draft import Draft
from tocsin.configure.imports.report import Weight
from tocsin.configure.imports.shapes import Document, object_of, objects_of, text_of
from tocsin.core.errors import Rejected
from tocsin.inbound.comparisons import Operator
from tocsin.inbound.reading import Definition, compile_reader

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
_OPERATORS = {str(operator): str(operator) for operator in Operator} | {"regex": "matches", "is": "equals"}


def integrations(
    draft: Draft, documents: list[Document], groups: dict[str, str], users: dict[str, str], policies: dict[str, str]
) -> None:
    """Adds every inbound integration."""
    for document in documents:
        there = text_of(document, "inbound_integration_name", "integration_name", "name")
        name = draft.name("integrations", there)
        kind = "haloitsm" if "halo" in there.lower() else _KINDS.get(text_of(document, "type").lower(), "api")
        entry: dict[str, Any] = {"name": name, "kind": kind}
        if document.get("enabled") is False:
            entry["mode"] = "disabled"
        recipients = {
            "groups": _known(document.get("recipient_groups"), groups),
            "users": _known(document.get("recipient_users"), users),
        }
        entry["recipients"] = {key: found for key, found in recipients.items() if found}
        policy = policies.get(text_of(document, "escalation_policy", "escalation_policy_name").casefold())
        # A policy of roles reaches nobody without a group.
        entry |= {"escalation_policy": policy} if policy else {}
        if policy is None or not recipients["groups"]:
            entry["anyway"] = True
            draft.together(
                Weight.TO_DO,
                "integrations",
                name,
                "have no policy, or no group that its roles are looked up in",
                "Their policy or recipients could not be carried over.",
                "Choose them on the Settings tab.",
            )
        if kind == "api":
            entry |= _definition(draft, object_of(document.get("api_settings")), f"integration {name}")
        draft.add("integrations", entry)
        draft.together(
            Weight.TO_DO,
            "integrations",
            name,
            "wait for their senders",
            "Those still send to AlertOps.",
            "Change the address that they send to to the one on the integration's Overview tab.",
        )


def _definition(draft: Draft, settings: Document, subject: str) -> dict[str, Any]:
    """Mapping, rules and filters of one's own; left to the kind where they cannot be used here."""
    mapping = object_of(settings.get("url_mapping"))
    found: dict[str, Any] = {}
    fields = {ours: _value(text) for theirs, ours in _FIELDS.items() if (text := text_of(mapping, theirs))}
    if fields:
        found["mapping"] = fields
    rules = {name: rule for name in ("open", "close") if (rule := _rule(object_of(mapping.get(f"{name}_alert_when"))))}
    if "open" in rules:
        # Only the rule that opens names its field: the one that closes asks the same.
        field = rules["open"].pop("named")
        rules = {name: _conditions(rule, field) for name, rule in rules.items()}
        found["rules"] = rules
    both = (_filter(settings, f"add_{how}_filter", how) for how in ("all", "any"))
    filters = [one for one in both if one]
    if filters:
        found["filters"] = {"all": filters}
    if not found:
        return {}
    try:
        compile_reader(load_kinds()["api"], Definition(**{"settings": {}, **found}))
    except (Rejected, TypeError, ValueError, KeyError) as problem:
        draft.leave_out(
            subject,
            "has no mapping and rules of its own",
            f"They cannot be used here: {str(problem)[:200]}",
            "Map the first message in the workbench.",
        )
        return {}
    return found


def _value(text: str) -> dict[str, str]:
    """A path, or a text with values in angle brackets."""
    return {"template": text} if "<" in text else {"path": text}


def _rule(rule: Document) -> dict[str, Any]:
    values = rule.get("values")
    known = [str(value) for value in values if str(value).strip()] if isinstance(values, list) else []
    operator = _OPERATORS.get(text_of(rule, "type").lower().replace("_", " "))
    return {"operator": operator, "values": known, "named": text_of(rule, "field_name")} if operator and known else {}


def _conditions(rule: dict[str, Any], field: str) -> dict[str, Any]:
    asked = f"^{field}" if field else "source_status"
    several = [{"field": asked, "operator": rule["operator"], "value": value} for value in rule["values"]]
    return several[0] if len(several) == 1 else {"any": several}


def _filter(settings: Document, key: str, how: str) -> dict[str, Any]:
    found = []
    for one in objects_of(object_of(settings.get(key)).get("filters")):
        condition = object_of(one.get("condition"))
        operator = _OPERATORS.get(text_of(condition, "type").lower().replace("_", " "))
        if operator and (field := text_of(condition, "field_name")):
            leaf: dict[str, Any] = {"field": f"^{field}", "operator": operator}
            if operator != Operator.EXISTS:
                leaf["value"] = text_of(condition, "value")
            found.append(leaf | ({"not": True} if one.get("not") is True else {}))
    return {how: found} if found else {}


def _known(given: object, names: dict[str, str]) -> list[str]:
    several = given if isinstance(given, list) else []
    said = [text_of(one, "group_name", "user_name", "name") if isinstance(one, dict) else str(one) for one in several]
    return list(dict.fromkeys(names[one.casefold()] for one in said if one.casefold() in names))
