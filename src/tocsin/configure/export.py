"""Exports the configuration as the YAML that `apply` reads; applying it again changes nothing."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

from django.db import transaction
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from tocsin.configure.config_files import SETTINGS
from tocsin.core.config import config_version, settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, Term
from tocsin.resources.registry import RESOURCES

_NOT_EXPORTED = ReasonType("config.not_exported", "Cannot export {resource} {name}: {problem}")

_MAX_FLOW_CHARS = 80

#: The order of keys in conditions, windows and reminders, which JSON in the database does not preserve.
_KEY_SEQUENCE = (
    *("name", "when", "field", "operator", "value", "match_case", "words", "not", "all", "any"),
    *("days", "from", "to", "before"),
    *("trigger", "on", "moment", "start", "stop", "actions", "do"),
)
_ORDER = {key: number for number, key in enumerate(_KEY_SEQUENCE)}

#: Words and times that YAML 1.1 readers would misinterpret, and texts that the library would write incorrectly: those
#: beginning with ? or : within a line, and unusual line breaks.
_AMBIGUOUS = re.compile(
    r"y|n|yes|no|on|off|[0-9]+(:[0-9]+)+|[?:].*|.*[\x85\u2028\u2029\ufeff].*", re.IGNORECASE | re.DOTALL
)


def export_configuration(*, with_secrets: bool) -> dict[str, Any]:
    """The complete configuration by top-level key, in the order `apply` needs; empty keys are omitted.

    Raises Rejected("unreadable") for an object that a newer version wrote.
    """
    with transaction.atomic():
        # Prevents changes meanwhile, so that referenced objects are included.
        config_version.lock()
        configuration: dict[str, Any] = {}
        if settings := settings_store.non_default_settings():
            configuration[SETTINGS] = settings
        for resource in RESOURCES:
            rows = list(resource.list_all())
            for row in rows:
                if problem := resource.unreadable(row):
                    raise Rejected(
                        "unreadable",
                        _NOT_EXPORTED(resource=Term(resource.label), name=resource.name(row), problem=problem),
                    )
            if rows:
                configuration[resource.key] = [resource.yaml_spec(row, with_secrets=with_secrets) for row in rows]
    return configuration


def write(value: dict[str, Any]) -> str:
    """The value as YAML 1.2; "" if empty."""
    if not value:
        return ""
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    buffer = StringIO()
    yaml.dump(_normalize(value), buffer)
    return buffer.getvalue()


def _normalize(value: Any) -> Any:
    """The same value with keys in their usual order, and short lists and conditions on one line."""
    match value:
        case dict():
            mapping = CommentedMap({_normalize(key): _normalize(value[key]) for key in sorted(value, key=_key_rank)})
            if "operator" in value and not any(isinstance(nested, dict) for nested in value.values()):
                mapping.fa.set_flow_style()
            return mapping
        case list():
            items = CommentedSeq(_normalize(item) for item in value)
            if all(not isinstance(item, dict | list) for item in value) and len(str(value)) < _MAX_FLOW_CHARS:
                items.fa.set_flow_style()
            return items
        case str() if _AMBIGUOUS.fullmatch(value):
            return DoubleQuotedScalarString(value)
        case _:
            return value


def _key_rank(key: str) -> int:
    # Sorting is stable: unlisted keys keep their order, after the listed ones.
    return _ORDER.get(key, len(_ORDER))
