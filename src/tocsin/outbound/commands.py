"""Changing outbound integrations, and what a person does about their calls. Checked by their kind, recorded in the
audit log, known to every node. Who may do it is asked by the caller, before.

A spec is the shape of YAML and the API: `{name, kind, group, enabled}` and the kind's settings beside them. Secrets are
written and never read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.db.models.functions import Lower
from django.utils import timezone

from tocsin.access import audit
from tocsin.access.audit import Actor
from tocsin.core import configuration, database, dependents
from tocsin.core.egress import HttpClient
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.specs import Spec
from tocsin.outbound import calls, directory, pacing, record
from tocsin.outbound.connectors.contract import Barred, ConnectorKind, Line
from tocsin.outbound.connectors.registry import KINDS
from tocsin.outbound.models import AgentMatch, Call, OutboundIntegration, Standing
from tocsin.outbound.queue import TOPIC
from tocsin.outbound.states import CallStatus
from tocsin.people.models import Group, User


def outbound_spec(integration: OutboundIntegration, *, with_secrets: bool = False) -> dict[str, Any]:
    """The integration as YAML and the API write one; its secrets only where they are asked for."""
    spec: dict[str, Any] = {"name": integration.name, "kind": integration.kind}
    if integration.group:
        spec["group"] = integration.group.name
    if not integration.is_enabled:
        spec["enabled"] = False
    spec |= integration.settings
    if agents := {match.user.username: match.number for match in integration.matches.all()}:
        spec["agents"] = agents
    return spec | directory.secrets_of(integration.secrets) if with_secrets else spec


def secrets_set(integration: OutboundIntegration) -> frozenset[str]:
    """The names of the secrets that are stored, for a form that shows only that."""
    try:
        return frozenset(directory.secrets_of(integration.secrets))
    except Permanent:
        return frozenset()


def save_outbound(
    spec: Mapping[str, object], *, existing: OutboundIntegration | None = None, actor: Actor, now: datetime
) -> OutboundIntegration:
    """Makes an outbound integration, or makes `existing` what the spec says. A secret that the spec does not have stays
    as it is; an empty one is forgotten. Whatever waited for a person to act is tried again.

    Raises Rejected that names the place of each problem.
    """
    with transaction.atomic():
        configuration.lock()
        read = Spec(spec)
        name, kind, group = _name(read, existing), _kind(read, existing), _group(read)
        enabled = read.flag("enabled", True)
        given = {key: read.text(key, longest=4000) for key in kind.secrets if read.has(key)}
        settings = kind.read(read)
        matches = _matches(read, settings.pop("agents", {}))
        known = directory.secrets_of(existing.secrets) if existing else {}
        if existing and _leads_elsewhere(existing.settings, settings):
            # Whoever may change the address must not learn by it what was stored for another one.
            for key in sorted(known.keys() - given.keys()):
                read.refuse(key, "enter the secret again: the address has changed.", "missing")
        read.finish()
        before = outbound_spec(existing) if existing else None
        secrets = {key: text for key, text in {**known, **given}.items() if text}
        row = existing or OutboundIntegration(created_at=now)
        row.name, row.kind, row.group, row.is_enabled, row.settings = name, kind.name, group, enabled, settings
        changed = sorted(key for key in {*known, *secrets} if known.get(key) != secrets.get(key))
        if changed or existing is None:
            row.secrets = directory.sealed(secrets)
        row.save()
        row.matches.all().delete()
        AgentMatch.objects.bulk_create(AgentMatch(integration=row, user=user, number=to) for user, to in matches)
        Standing.objects.get_or_create(integration=row, defaults={"look_at": now})
        if _record(row, before, outbound_spec(row), changed, actor, now):
            _try_again(row.pk)
    return row


def delete_outbound(integration: OutboundIntegration, *, actor: Actor, now: datetime) -> None:
    """Deletes an outbound integration with its calls. Raises Rejected ("in_use") while an inbound one, or a
    workflow, names it."""
    with transaction.atomic():
        configuration.lock()
        users = list(integration.inbound.order_by("name").values_list("name", flat=True)[:5])
        if users:
            detail = f"{integration.name} cannot be deleted: {', '.join(users)} writes back by it. Take it away there."
            raise Rejected("in_use", detail)
        dependents.refuse_deletion("outbound", integration.pk, integration.name)
        _record(integration, outbound_spec(integration), None, [], actor, now)
        integration.delete()


def verify_outbound(integration: OutboundIntegration, now: datetime, *, client: HttpClient | None = None) -> str:
    """Tries address and credentials; changes nothing on the other side. A sentence that says what works.

    Raises Temporary or Permanent with one that says what does not. Holds no transaction. What worked ends a bar.
    """
    said, _line = with_line(integration, lambda opened, line: opened.sender.verify(line, now), now, client)
    with transaction.atomic():
        _try_again(integration.pk)
    return said


def call_once(integration: OutboundIntegration, alert_id: int, actor: Actor, now: datetime) -> int:
    """Queues the templated call for an alert, at a person's wish. Returns the call's number."""
    with database.transaction() as connection:
        found = calls.call_for_alerts(
            connection, integration.pk, [alert_id], now, reason=f"{integration.name}, sent by {actor.name}"
        )
    if not found:
        raise Rejected("not_found", f"There is no alert {alert_id} that calls can be made for.", "alert")
    return found[0]


def with_line[T](
    integration: OutboundIntegration,
    work: Callable[[directory.Open, Line], T],
    now: datetime,
    client: HttpClient | None = None,
) -> tuple[T, Line]:
    """Does something on the other side outside the outbox, and keeps what was said in the log, however it ends."""
    own = client or HttpClient()
    opened = directory.opened(
        {
            "id": integration.pk,
            "name": integration.name,
            "kind": integration.kind,
            "settings": integration.settings,
            "secrets": integration.secrets,
        },
        own,
    )
    line = Line(own, timezone.now, opened.secrets)
    try:
        return work(opened, line), line
    except Barred as error:
        Standing.objects.filter(pk=integration.pk).update(
            problem=str(error), problem_at=now, barred_until=now + pacing.BARRED
        )
        raise
    finally:
        if client is None:
            own.close()
        if line.said:
            with database.transaction() as connection:
                record.keep_said(connection, [(integration.pk, None, one) for one in line.said])


def send_again(call: Call, *, actor: Actor, now: datetime) -> None:
    """Puts a dead letter back into the outbox. Raises Rejected for one that is none."""
    with transaction.atomic():
        changed = Call.objects.filter(pk=call.pk, status=CallStatus.DEAD).update(
            status=CallStatus.QUEUED, attempts=0, due_at=now, queued_at=now, ended_at=None
        )
        if not changed:
            raise Rejected("not_possible", "Only what could not be sent can be sent again.")
        _record_verb(actor, "send_again", call, now)
        _wake()


def send_all_again(integration: OutboundIntegration, *, actor: Actor, now: datetime) -> int:
    """The same for every dead letter of an integration, oldest first; returns how many."""
    with transaction.atomic():
        count = Call.objects.filter(integration=integration, status=CallStatus.DEAD).update(
            status=CallStatus.QUEUED, attempts=0, due_at=now, queued_at=now, ended_at=None
        )
        if count:
            audit.record(
                actor, "send_again", now=now, object_type="outbound_integration", object_id=integration.pk,
                object_name=integration.name, after={"calls": count},
            )  # fmt: skip
            _wake()
    return count


def drop(call: Call, *, actor: Actor, now: datetime) -> None:
    """Decides that a call which waits or failed is not sent. Raises Rejected while it is on its way."""
    with transaction.atomic():
        changed = Call.objects.filter(pk=call.pk, status__in=[CallStatus.DEAD, CallStatus.QUEUED]).update(
            status=CallStatus.DROPPED, ended_at=now, result=f"{actor.name} decided that it is not sent."
        )
        if not changed:
            raise Rejected("not_possible", "It has been sent, or is on its way.")
        _record_verb(actor, "drop", call, now)
        _wake()


def _record_verb(actor: Actor, verb: str, call: Call, now: datetime) -> None:
    audit.record(
        actor, verb, now=now, object_type="outbound_call", object_id=call.pk, object_name=call.said,
    )  # fmt: skip


def needs_group(group_id: int) -> list[str]:
    """The outbound integrations that the group owns, for whoever wants to delete it."""
    names = OutboundIntegration.objects.filter(group=group_id).values_list("name", flat=True)
    return [f"outbound integration {name}" for name in names]


def _try_again(number: int) -> None:
    """A person has acted: what was barred or waits for its next try goes now."""
    now = timezone.now()
    Standing.objects.filter(pk=number).update(
        problem="", problem_at=None, barred_until=None, failures=0, open_until=None, not_before=None
    )
    Call.objects.filter(integration=number, status=CallStatus.QUEUED, due_at__gt=now).update(due_at=now)
    _wake()


def _wake() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", (database.CHANNEL, f"{TOPIC} outbound-log"))


def _name(spec: Spec, existing: OutboundIntegration | None) -> str:
    name = spec.name()
    others = OutboundIntegration.objects.exclude(pk=existing.pk) if existing else OutboundIntegration.objects.all()
    if name and others.filter(name__iexact=name).exists():
        spec.refuse("name", f'there is an outbound integration "{name}" already.', "name_taken")
    return name


def _kind(spec: Spec, existing: OutboundIntegration | None) -> ConnectorKind:
    kind = KINDS.get(spec.text("kind", required=True))
    if kind is None:
        if spec.has("kind"):
            spec.refuse("kind", f"there is no such kind; there are {', '.join(sorted(KINDS))}.")
        spec.check()
        raise AssertionError("an unknown kind is refused")
    if existing is not None and existing.kind != kind.name:
        spec.refuse("kind", "stays what it was; make a new outbound integration for another kind.")
    return kind


def _leads_elsewhere(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether an address among the settings has another origin (scheme, host, port) than before, or is new."""
    keys = [key for key in after if key in ("url", "api_base") or key.endswith("_url")]
    return any(_origin(str(before.get(key, ""))) != _origin(str(after[key])) for key in keys)


def _origin(url: str) -> tuple[str, str, int | None] | str:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname or "", port
    except ValueError:
        return url


def _matches(spec: Spec, agents: Mapping[str, str]) -> list[tuple[User, str]]:
    """The users that were matched with agents by hand."""
    wanted = {username.casefold() for username in agents}
    folded = User.objects.annotate(folded=Lower("username")).filter(folded__in=wanted)
    known = {user.username.casefold(): user for user in folded}
    found = []
    for username, number in agents.items():
        user = known.get(username.casefold())
        if user is None:
            spec.refuse("agents", f'there is no user "{username}".', "not_found")
        elif not number.isdigit():
            spec.refuse("agents", f"{username}: give the agent's number in Halo.")
        elif any(user == other for other, _ in found):
            spec.refuse("agents", f'names the user "{user.username}" twice.')
        else:
            found.append((user, number))
    return found


def _group(spec: Spec) -> Group | None:
    name = spec.text("group")
    if not name:
        return None
    group = Group.objects.filter(name__iexact=name).first()
    if group is None:
        spec.refuse("group", f'there is no group "{name}".', "not_found")
    return group


def _record(
    row: OutboundIntegration,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    changed_secrets: list[str],
    actor: Actor,
    now: datetime,
) -> bool:
    if after is not None and changed_secrets:
        # That a secret changed is on record; what it was or is, never.
        after = {**after, "secrets_changed": changed_secrets}
    is_change = audit.record_change(
        actor,
        now=now,
        object_type="outbound_integration",
        object_id=row.pk,
        object_name=row.name,
        before=before,
        after=after,
    )
    if is_change:
        configuration.changed()
    return is_change
