"""Creates, changes and deletes inbound integrations: compiles them as a check, audits them, and notifies every node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE
from tocsin.catalogue.kinds import IntegrationKind, IntegrationSettingType, load_kinds
from tocsin.core import hooks, ids
from tocsin.core.config import crypto, settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation.inputs import AT_PATH, rejected_at
from tocsin.escalation import commands as policies
from tocsin.escalation.models import Policy
from tocsin.escalation.policy import RECIPIENTS_ONLY, CompiledPolicy
from tocsin.inbound import heartbeats
from tocsin.inbound.admin import secrets, specs
from tocsin.inbound.admin.specs import ParsedIntegration
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration, ReferenceNames
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.inbound.config.registry import UnknownIntegration
from tocsin.inbound.config.rules import UNKNOWN_KIND, RouteAction, RouteReference
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import ClientTable, DelayedAlert, Integration, IntegrationVersion
from tocsin.people import permissions
from tocsin.people.models import find_group

# ---------- source conflicts
# Refuses integrations that must not share a Source, and with it their alerts.
# Several integrations of one ticket system installation may share a Source. Two installations may not: both count
# tickets from 1, so a ticket of one would be taken for one of the other, page nobody, and close its alert. Nor may a
# user share the Source of an integration that they may not change, because that would let them close its alerts.

#: The keys of a spec that decide which alerts its messages belong to, and whether they close one.
_DECIDES = ("kind", "source", "group", "mode", "settings", "mapping", "rules", "dedup_key")


def refuse_two_systems(integration: Integration) -> None:
    """Raises Rejected("shared_source") if another integration with the same Source belongs to another installation.

    Integrations without a configured address are not compared.
    """
    kind = load_kinds()[integration.kind]
    hosts = _hosts(integration, kind)
    if not kind.assigns_source_agent or not hosts:
        return
    source = integration.source or kind.source
    for other in Integration.objects.exclude(pk=integration.pk).select_related("outbound").order_by("pk"):
        other_kind = load_kinds().get(other.kind)
        if other_kind is None or not other_kind.assigns_source_agent or (other.source or other_kind.source) != source:
            continue
        other_hosts = _hosts(other, other_kind)
        if other_hosts and not {*other_hosts} & {*hosts}:
            problem = sentence(
                '"{source}" is also the Source of {other}, which receives tickets from {other_host}, not {host}. '
                "Tickets with the same number would share an alert. Use a different Source, such as {source} "
                "{host}.",
                source=source or "",
                other=other.name,
                other_host=other_hosts[0],
                host=hosts[0],
            )
            raise _conflict(other, source or "", problem)


def refuse_without_rights(
    integration: Integration,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    *,
    key_source_before: str | None,
    actor: AuditActor,
) -> None:
    """Raises Rejected("shared_source") if `integration` now shares its Source with an integration that the actor may
    not change. `before` and `after` are its specs: a change that does not affect alerts is allowed if the Source
    was shared before."""
    key_source = key_source_of(integration)
    is_same = before is not None and all(before.get(key) == after.get(key) for key in _DECIDES)
    if is_same and key_source == key_source_before:
        return
    viewer = permissions.viewer_of(actor)
    if viewer is None:
        return
    # The other integrations with that Source, now or when alerts opened that are still active.
    alerts = Alert.objects.filter(source=key_source, status__in=sorted(ACTIVE))
    sharing_ids = set(alerts.values_list("integration_id", flat=True).distinct())
    for other in Integration.objects.exclude(pk=integration.pk).order_by("pk"):
        if other.pk not in sharing_ids and key_source_of(other) != key_source:
            continue
        if not viewer.may(Permission.MANAGE_ROUTING, other.group_id):
            problem = sentence(
                '"{source}" is also the Source of {other}, which you can\'t edit. This integration could close its '
                "alerts. Use a different Source, or ask an administrator.",
                source=key_source,
                other=other.name,
            )
            raise _conflict(other, key_source, problem)


def _conflict(other: Integration, source: str, problem: Reason) -> Rejected:
    """Returns the rejection, which names the other integration only to those who see it."""
    with boundary.as_viewer():
        is_visible = Integration.objects.filter(pk=other.pk).exists()
    if not is_visible:
        problem = sentence(
            '"{source}" is also the Source of an integration that you can\'t see. Use a different Source, or ask an '
            "administrator.",
            source=source,
        )
    return Rejected("shared_source", AT_PATH(path="source", problem=problem), "source")


def key_source_of(integration: Integration) -> str:
    """Returns the first part of the integration's dedup keys. Integrations with the same value share alerts."""
    kind = load_kinds().get(integration.kind)
    source = integration.source or (kind.source if kind is not None else "")
    return source or integration.dedup_namespace or integration.name


def _hosts(integration: Integration, kind: IntegrationKind) -> list[str]:
    """Returns the hosts of the ticket system: those in the settings, and that of the outbound integration."""
    addresses = [
        integration.settings.get(setting.name)
        for setting in kind.settings
        if setting.kind is IntegrationSettingType.ADDRESS
    ]
    outbound = integration.outbound.settings.get("base_url") if integration.outbound is not None else ""
    return [host for address in (*addresses, outbound) if (host := urlsplit(str(address or "")).hostname)]


# ---------- commands
# The definition that decides about messages is versioned. A version is immutable.

#: What keeps an integration from being deleted.
ACTIVE_ALERTS = Text("{count} active alert", "{count} active alerts")
DELAYED_ALERTS = Text("{count} delayed alert", "{count} delayed alerts")


def integration_spec(
    integration: Integration, names: ReferenceNames | None = None, *, with_secrets: bool = False
) -> dict[str, Any]:
    """Returns the integration as a spec (YAML, API), with its token and credentials only if `with_secrets`.

    `names` is the result of `specs.names()`, for callers that render several integrations.
    """
    # Recipients are loaded completely and sorted in Python to use prefetched rows.
    recipients = {
        "users": sorted(user.username for user in integration.recipient_users.all()),
        "groups": sorted(group.name for group in integration.recipient_groups.all()),
    }
    parts: dict[str, Any] = {
        "name": integration.name,
        "kind": integration.kind,
        "source": integration.source,
        "group": integration.group and integration.group.name,
        "mode": integration.mode if integration.mode != IntegrationMode.PAGE else "",
        "escalation_policy": integration.policy and integration.policy.name,
        "outbound": integration.outbound and integration.outbound.name,
        "recipients": {key: names_of for key, names_of in recipients.items() if names_of},
        "settings": {key: value for key, value in integration.settings.items() if key != specs.ALLOW_UNREACHABLE},
        "anyway": bool(integration.settings.get(specs.ALLOW_UNREACHABLE)),
    }
    spec = {key: part for key, part in parts.items() if part}
    if integration.current_version:
        spec |= describe_version(integration.current_version, names)
    # An export with secrets must be complete; without secrets, undecryptable credentials must not fail the request.
    credentials = secrets.credentials_of(integration) if with_secrets else secrets.readable_credentials(integration)
    if with_secrets:
        spec["token"] = secrets.token_of(integration)
    if credentials:
        spec["credentials"] = credentials if with_secrets else secrets.masked_credentials(credentials)
    return spec


def integration_state(integration: Integration) -> dict[str, Any]:
    """Returns the spec with all decryptable secrets, to detect and audit changes. Never shown to a user."""
    spec = integration_spec(integration)
    if (token := crypto.decrypt_or_none(integration.token)) is not None:
        spec["token"] = token
    if credentials := secrets.readable_credentials(integration):
        spec["credentials"] = credentials
    return spec


def save_integration(
    spec: Mapping[str, object], *, existing: Integration | None = None, actor: AuditActor, now: datetime
) -> Integration:
    """Creates an integration, or updates `existing` to match the spec. A token or credentials that the spec omits are
    kept; a new integration gets a token.

    Raises Rejected with the field of an unusable path, regular expression, operator or name; Rejected("reaches_nobody")
    for an integration in mode page that cannot reach anybody, unless the spec has `anyway: true`; and
    Rejected("shared_source") if it would share alerts with another installation of a ticket system, or with an
    integration that the acting user may not change.
    """
    with boundary.command():
        settings_store.lock()
        parsed = specs.read(spec, existing)
        before = integration_state(existing) if existing else None
        key_source = key_source_of(existing) if existing else None
        integration = existing or Integration(created_at=now)
        _write_integration(integration, parsed, now)
        refuse_two_systems(integration)
        _write_version(integration, parsed.definition, actor, now)
        after = integration_state(Integration.objects.get(pk=integration.pk))
        refuse_without_rights(integration, before, after, key_source_before=key_source, actor=actor)
        if before != after:
            _require_reachable(integration, parsed, now)
        audit.record_config_audit("integration", integration, before, after, actor=actor, now=now)
    return integration


def delete_integration(integration: Integration, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an integration with its messages; its alerts stay.

    Raises Rejected("in_use") while the integration has active alerts, which nothing could close any more, or delayed
    alerts, which would never open.
    """
    with boundary.command():
        settings_store.lock()
        hooks.reject_if_referenced("integration", integration.pk, integration.name)
        before = integration_state(integration)
        Integration.objects.filter(pk=integration.pk).update(current_version=None)
        audit.record_config_audit("integration", integration, before, None, actor=actor, now=now)
        Integration.objects.get(pk=integration.pk).delete()


def uses_of_policy(policy_id: int) -> Iterator[policies.PolicyUse]:
    """Yields the recipients for which integrations in mode page use the policy directly."""
    with boundary.as_viewer():
        visible = set(Integration.objects.filter(policy=policy_id).values_list("pk", flat=True))
    for integration in Integration.objects.filter(policy=policy_id, mode=IntegrationMode.PAGE):
        if not integration.settings.get(specs.ALLOW_UNREACHABLE):
            yield policies.PolicyUse(
                hooks.INTEGRATION(name=integration.name) if integration.pk in visible else None,
                tuple(integration.recipient_users.values_list("pk", flat=True)),
                tuple(integration.recipient_groups.values_list("pk", flat=True)),
            )


def alerts_of_integration(integration_id: int) -> list[Reason]:
    """Counts the active alerts, which nothing else could close, and the delayed ones, which would never open."""
    active = Alert.objects.filter(integration_id=integration_id, status__in=sorted(ACTIVE)).count()
    delayed = DelayedAlert.objects.filter(integration_id=integration_id).count()
    return [ACTIVE_ALERTS(count=active)] * bool(active) + [DELAYED_ALERTS(count=delayed)] * bool(delayed)


def _write_integration(integration: Integration, parsed: ParsedIntegration, now: datetime) -> None:
    spec = parsed.spec
    integration.dedup_namespace = _dedup_namespace(integration, parsed)
    integration.name, integration.kind, integration.source = spec.name, spec.kind, spec.source
    is_leaving_dry_run = integration.mode == IntegrationMode.DRY_RUN and spec.mode is IntegrationMode.PAGE
    if integration.mode != spec.mode and not integration._state.adding:
        integration.mode_since = now
    integration.mode, integration.settings = spec.mode, parsed.settings
    integration.group = find_group(spec.group)
    integration.policy_id, integration.outbound_id = spec.policy_id, spec.outbound_id
    _write_secrets(integration, parsed, now)
    integration.save()
    integration.recipient_users.set(spec.recipients.user_ids)
    integration.recipient_groups.set(spec.recipients.group_ids)
    if spec.kind == heartbeats.KIND:
        heartbeats.update_due_time(integration.pk, {**parsed.kind.default_settings, **parsed.settings}, now)
        if is_leaving_dry_run:
            heartbeats.repeat_notice(integration.pk, now)


def _dedup_namespace(integration: Integration, parsed: ParsedIntegration) -> str:
    """Returns the dedup key namespace if it is neither the Source nor the new name; "" otherwise."""
    if parsed.spec.source or parsed.kind.source:
        return ""
    name = parsed.spec.name
    if not integration._state.adding and not integration.source:
        namespace = integration.dedup_namespace or integration.name
    else:
        namespace = name
    others = Integration.objects.exclude(pk=integration.pk) if integration.pk else Integration.objects.all()
    if namespace == name and others.filter(dedup_namespace=namespace).exists():
        # Another integration had that name before, and its alerts keep the namespace.
        return f"{namespace} {ids.token()}"
    return "" if namespace == name else namespace


def _write_secrets(integration: Integration, parsed: ParsedIntegration, now: datetime) -> None:
    is_new, token = integration._state.adding, parsed.spec.token
    if token is not None:
        if is_new or not secrets.keep_token(integration, token):
            secrets.validate_token(token, None if is_new else integration)
            secrets.put_token(integration, token, overlap=secrets.DEFAULT_OVERLAP, now=now)
    elif is_new:
        secrets.put_token(integration, ids.token(), overlap=secrets.DEFAULT_OVERLAP, now=now)
    if parsed.spec.credentials is not None:
        stored_credentials = secrets.readable_credentials(integration)
        headers = (parsed.kind.signature_header, parsed.kind.signature_timestamp_header)
        credentials = secrets.complete_credentials(parsed.spec.credentials, stored_credentials, *headers)
        if credentials != stored_credentials:
            secrets.put_credentials(integration, credentials)


def _write_version(integration: Integration, definition: dict[str, Any], actor: AuditActor, now: datetime) -> None:
    if integration.current_version is not None and integration.current_version.definition == definition:
        return
    last = integration.versions.order_by("number").last()
    integration.current_version = IntegrationVersion.objects.create(
        integration=integration,
        number=last.number + 1 if last else 1,
        definition=definition,
        created_at=now,
        created_by_id=actor.user_id,
    )
    integration.save(update_fields=["current_version"])


def _require_reachable(integration: Integration, parsed: ParsedIntegration, now: datetime) -> None:
    """Checks that the integration's policy, and each route that pages, can reach somebody."""
    spec = parsed.spec
    if spec.allow_unreachable or spec.mode is not IntegrationMode.PAGE:
        return
    ids = (integration.policy_id, spec.recipients.user_ids, spec.recipients.group_ids)
    for field_path, problem in _unreachable(parsed.definition, *ids, now):
        problem = sentence(
            "{problem} Add a reachable recipient, or save anyway (anyway: true in YAML and the API).", problem=problem
        )
        raise rejected_at(field_path, problem, "reaches_nobody")


def reachability_problem(integration: Integration, now: datetime) -> list[tuple[str, Reason]]:
    """Returns the places, with reasons, where an integration in mode page cannot reach anybody as configured now."""
    if integration.mode != IntegrationMode.PAGE:
        return []
    definition = integration.current_version.definition if integration.current_version else {}
    users = tuple(integration.recipient_users.values_list("pk", flat=True))
    groups = tuple(integration.recipient_groups.values_list("pk", flat=True))
    return list(_unreachable(definition, integration.policy_id, users, groups, now))


def _unreachable(
    definition: Mapping[str, Any],
    policy_id: int | None,
    user_ids: Sequence[int],
    group_ids: Sequence[int],
    now: datetime,
) -> Iterator[tuple[str, Reason]]:
    targets = [("escalation_policy", policy_id, tuple(user_ids), tuple(group_ids))]
    for number, route in enumerate(definition.get("routes", [])):
        if route.get("action") == RouteAction.LOG_ONLY:
            continue
        recipients, table_id = route.get("recipients") or {}, route.get("client_table")
        # The responsible group is one of those in the route's client table.
        table = ClientTable.objects.filter(pk=table_id).first() if isinstance(table_id, int) else None
        table_groups = [row["group"] for row in table.clients if row.get("group")] if table else []
        users, groups = tuple(recipients.get("users", user_ids)), recipients.get("groups", group_ids)
        policy = route.get("escalation_policy", policy_id)
        targets.append((f"routes[{number}]", policy, users, (*groups, *table_groups)))
    for field_path, policy, users, groups in targets:
        if problem := policies.reachability_problem(_compiled_policy(policy), users, groups, now):
            yield field_path, problem


def _compiled_policy(policy_id: int | None) -> CompiledPolicy:
    if policy_id is None:
        return RECIPIENTS_ONLY
    return policies.plan_of(Policy.objects.select_related("current_version").get(pk=policy_id))


# ---------- drafts: an integration with a changed definition, compiled exactly as the live one


def compile_stored(integration: Integration) -> CompiledIntegration:
    """Returns the live compiled integration. Raises Rejected("not_possible") if the integration was deleted."""
    integration_registry = registry.shared_registry()
    integration_registry.refresh()
    try:
        return integration_registry.get(integration.pk)
    except UnknownIntegration:
        raise Rejected("not_possible", sentence("{integration} was deleted.", integration=integration.name)) from None


def parts_of(integration: Integration, names: ReferenceNames | None = None) -> dict[str, Any]:
    """Returns the parts of the definition that the integration sets now, as written in a spec."""
    spec = integration_spec(integration, names)
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


# ---------- versions


@dataclass(frozen=True, slots=True)
class DefinitionChange:
    """One part of a definition that differs between two versions; None: the kind's default."""

    part: str
    before: Any
    after: Any


def find_version(integration: Integration, number: int) -> IntegrationVersion:
    """Returns the integration's version with that number. Raises Rejected("not_found")."""
    version = integration.versions.filter(number=number).first() if number < 2**31 else None
    if version is None:
        raise Rejected(
            "not_found",
            sentence("{integration} has no version {number}.", integration=integration.name, number=str(number)),
        )
    return version


def describe_version(version: IntegrationVersion, names: ReferenceNames | None = None) -> dict[str, Any]:
    """Returns a version's definition as in a spec, with names instead of ids."""
    definition: dict[str, Any] = dict(version.definition)
    if "mapping" in definition:
        definition["mapping"] = specs.nest_custom_fields(definition["mapping"])
    if specs.has_references(definition):
        definition = specs.definition_with_names(definition, names or specs.load_reference_names())
    return {key: definition[key] for key in specs.DEFINITION_KEYS if key in definition}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[DefinitionChange, ...]:
    """Returns the parts in which two definitions, as `describe_version` returns them, differ."""
    return tuple(
        DefinitionChange(key, before.get(key), after.get(key))
        for key in specs.DEFINITION_KEYS
        if before.get(key) != after.get(key)
    )


def restore_version(integration: Integration, number: int, *, actor: AuditActor, now: datetime) -> Integration:
    """Restores an old version's definition by saving it as a new version.

    Raises Rejected("not_found"), or whatever saving raises, for example for a policy of that version that was deleted.
    """
    old_definition = describe_version(find_version(integration, number))
    with settings_store.exclusive(integration):
        current_spec = integration_spec(integration)
        spec = {key: part for key, part in current_spec.items() if key not in specs.DEFINITION_KEYS}
        return save_integration({**spec, **old_definition}, existing=integration, actor=actor, now=now)
