"""Compiles an integration with a changed mapping, rules, filters, routes or dedup key, exactly as the live one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tocsin.catalogue.kinds import IntegrationKind, load_kinds
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.inbound.admin import commands, specs
from tocsin.inbound.admin.references import ReferenceNames
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.inbound.config.reasons import UNKNOWN_KIND
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.routes import RouteReference
from tocsin.inbound.models import Integration

_DELETED = ReasonType("integration.deleted", "{integration} was deleted.")


def compile_stored(integration: Integration) -> CompiledIntegration:
    """Returns the live compiled integration. Raises Rejected("not_possible") if the integration was deleted."""
    integration_registry = registry.shared_registry()
    integration_registry.refresh()
    try:
        compiled = integration_registry.get(integration.pk)
    except UnknownIntegration:
        raise Rejected("not_possible", _DELETED(integration=integration.name)) from None
    return compiled


def parts_of(integration: Integration, names: ReferenceNames | None = None) -> dict[str, Any]:
    """Returns the parts of the definition that the integration sets now, as written in a spec."""
    spec = commands.integration_spec(integration, names)
    return {key: spec[key] for key in specs.DEFINITION_KEYS if key in spec}


def compile_draft(
    integration: Integration, parts: Mapping[str, Any], names: ReferenceNames | None = None
) -> CompiledIntegration:
    """Compiles the integration with `parts`: other parts stay as they are now, and an empty part falls back to the
    kind's.

    Raises Rejected or RejectedAll with the field of each problem, as saving would; Rejected("not_possible") for an
    unknown kind.
    """
    reference_names = names or specs.load_reference_names()
    kind = kind_of(integration)
    definition = specs.stored_definition(
        kind, {**parts_of(integration, reference_names), **parts}, integration.settings, reference_names
    )
    return with_stored_definition(compile_stored(integration), integration, definition, reference_names)


def with_stored_definition(
    compiled: CompiledIntegration, integration: Integration, stored: Mapping[str, Any], names: ReferenceNames
) -> CompiledIntegration:
    """Compiles the integration with a stored definition. Raises Rejected if the definition does not compile."""
    hours: dict[RouteReference, str] = dict(names.hours.items())
    definition = IntegrationDefinition(**{"settings": integration.settings, **stored})
    normalizer = compile_normalizer(kind_of(integration), definition, hours)
    return replace(compiled, normalizer=normalizer, version_id=None, problem=None)


def kind_of(integration: Integration) -> IntegrationKind:
    """Returns the integration's kind. Raises Rejected("not_possible") if this version of Tocsin does not know it."""
    kind = load_kinds().get(integration.kind)
    if kind is None:
        raise Rejected("not_possible", UNKNOWN_KIND(kind=integration.kind))
    return kind
