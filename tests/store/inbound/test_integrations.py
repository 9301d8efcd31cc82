"""Saving inbound integrations: invalid definitions are rejected with locations and without partial changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.ingest import Ingest
from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.models import AuditEntry
from tocsin.alerts.models import Alert
from tocsin.core import hooks
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.ids import token_hash
from tocsin.core.models import ConfigVersion
from tocsin.escalation import commands as policies
from tocsin.inbound.admin import commands, secrets
from tocsin.inbound.admin.commands import compile_stored
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.models import DelayedAlert, Integration, IntegrationVersion
from tocsin.oncall.changes import commands as oncall
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import ContactMethod, User
from tocsin.resources import registry

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def team(database: str, now: datetime) -> None:
    make_user("alice", now, name="Alice")
    make_user("bob", now)
    make_group("Desk", now, members=("alice", "bob"))
    make_group("Empty", now)
    policies.save_policy({"name": "Standard", "steps": [{"notify": {"roles": ["primary"]}}]}, actor=ACTOR, now=now)
    hours = {"name": "Office hours", "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]}
    oncall.save_support_hours(hours, actor=ACTOR, now=now)


def spec(**change: Any) -> dict[str, Any]:
    """A HaloITSM integration that works, with some of it changed; None leaves a key out."""
    whole = {
        "name": "HaloITSM",
        "kind": "haloitsm",
        "escalation_policy": "Standard",
        "recipients": {"groups": ["Desk"]},
        **change,
    }
    return {key: value for key, value in whole.items() if value is not None}


def save(now: datetime, existing: Integration | None = None, **change: Any) -> Integration:
    return commands.save_integration(spec(**change), existing=existing, actor=ACTOR, now=now)


@pytest.mark.parametrize(
    ("change", "place", "part"),
    [
        ({"name": "a/b"}, "name", "slash"),
        ({"kind": "halo"}, "kind", "haloitsm"),
        ({"kind": None}, "kind", "required"),
        ({"mode": "loud"}, "mode", "not one of page, dry_run and disabled"),
        ({"mapping": {"subjct": "a"}}, "mapping.subjct", 'did you mean "subject"'),
        ({"mapping": {"Source Status": "a"}}, "mapping.Source Status", 'did you mean "source_status"'),
        ({"mapping": {"wing": "a"}}, "mapping.wing", "put a custom field under custom:"),
        ({"group": "Nobody"}, "group", 'no group named "Nobody"'),
        ({"escalation_policy": "Nothing"}, "escalation_policy", 'unknown escalation policy "Nothing"'),
        ({"recipients": {"groups": ["Desk", "Nobody"]}}, "recipients.groups[1]", "no group"),
        ({"recipients": {"users": ["mallory"]}}, "recipients.users[0]", "no user"),
        ({"recipients": {"people": ["alice"]}}, "recipients.people", "unknown key"),
        ({"settings": {"halo_adress": "x"}}, "settings.halo_adress", "did you mean"),
        ({"settings": {"halo_address": "not an address"}}, "settings.halo_address", "must be a URL"),
        ({"settings": {"fail_open": "yes"}}, "settings.fail_open", "true or false"),
        ({"mapping": {"subject": "ticket^^^"}}, "mapping.subject", "ends with ^"),
        ({"mapping": {"subject": {"path": "a", "template": "b"}}}, "mapping.subject", "exactly one"),
        ({"mapping": "ticket"}, "mapping", "must be an object"),
        ({"rules": {"open": {"field": "source_status", "operator": "matches", "value": "("}}}, "rules.open.value", ""),
        ({"rules": {"open": {"field": "source_status", "operator": "is", "value": "x"}}}, "rules.open.operator", ""),
        ({"rules": {"reopen": {}}}, "rules.reopen", "unknown key"),
        ({"filters": {"both": []}}, "filters.both", ""),
        ({"routes": [{"when": {"field": "^", "operator": "exists"}}]}, "routes[0].when.field", ""),
        ({"routes": [{"priority": "urgent"}]}, "routes[0].priority", "one of"),
        ({"routes": [{"escalation_policy": "Nothing"}]}, "routes[0].escalation_policy", "unknown escalation policy"),
        ({"routes": [{"during": {"not": "Night"}}]}, "routes[0].during.not", "no support hours"),
        ({"routes": [{"recipients": {"users": ["mallory"]}}]}, "routes[0].recipients.users[0]", "no user"),
        ({"routes": [{"colour": "red"}]}, "routes[0].colour", "unknown key"),
        ({"dedup_key": 7}, "dedup_key", "must be text"),
        ({"mapping": {"subject": {"literal": "a\0b"}}}, "mapping.subject.literal", "cannot be stored"),
        ({"mapping": {"subject": {"literal": float("inf")}}}, "mapping.subject.literal", "finite number"),
        ({"token": "short"}, "token", "32 to 200"),
        ({"token": "x" * 31 + "/"}, "token", "32 to 200"),
        ({"credentials": {"basic": {"username": "halo"}}}, "credentials.basic.password", "required"),
        ({"credentials": {"basic": {"username": "a:b", "password": "c"}}}, "credentials.basic.username", "colon"),
        ({"credentials": {"header": {"name": "X Y", "value": "v"}}}, "credentials.header.name", "name of a header"),
        ({"credentials": {"oauth": {}}}, "credentials.oauth", "unknown key"),
        ({"outbound": "Halo"}, "outbound", 'unknown outbound integration "Halo"'),
        ({"colour": "red"}, "colour", "unknown key"),
        ({"receipients": {}}, "receipients", 'did you mean "recipients"'),
    ],
)
def test_invalid_definition_is_rejected_with_location_and_nothing_saved(
    now: datetime, change: dict[str, Any], place: str, part: str
) -> None:
    entries = AuditEntry.objects.count()
    with pytest.raises(Rejected) as raised:
        save(now, **change)
    assert place in raised.value.fields, raised.value.fields
    assert part in raised.value.fields[place]
    assert not Integration.objects.exists()
    assert AuditEntry.objects.count() == entries


def deep(depth: int) -> dict[str, Any]:
    condition: dict[str, Any] = {"field": "a", "operator": "exists"}
    for _ in range(depth):
        condition = {"not": condition}
    return condition


def test_very_deep_condition_is_rejected_without_another_error(now: datetime) -> None:
    with pytest.raises(Rejected, match=r"nested|deep"):
        save(now, filters=deep(900))


@pytest.mark.parametrize(
    "change",
    [
        {"escalation_policy": None, "recipients": None},
        {"recipients": None},
        {"recipients": {"groups": ["Empty"]}},
        {"routes": [{"recipients": {"groups": ["Empty"]}}]},
        {"routes": [{"when": {"field": "client", "operator": "exists"}, "recipients": {"groups": []}}]},
    ],
)
def test_unreachable_integration_is_rejected_unless_saved_anyway(now: datetime, change: dict[str, Any]) -> None:
    with pytest.raises(Rejected, match="No one would be notified") as raised:
        save(now, **change)
    assert raised.value.code == "reaches_nobody"
    assert raised.value.field in ("escalation_policy", "routes[0]")
    assert not Integration.objects.exists()
    integration = save(now, **change, anyway=True)
    assert commands.integration_spec(integration)["anyway"] is True
    commands.save_integration(commands.integration_spec(integration), existing=integration, actor=ACTOR, now=now)


def test_only_users_with_active_contact_method_count_as_reachable(now: datetime) -> None:
    ContactMethod.objects.update(is_enabled=False)
    with pytest.raises(Rejected, match="no enabled contact method"):
        save(now)
    ContactMethod.objects.update(is_enabled=True)
    User.objects.update(is_active=False)
    with pytest.raises(Rejected, match="No one would be notified"):
        save(now)


def test_dry_run_and_log_only_integrations_need_no_reachable_user(now: datetime) -> None:
    save(now, name="A", recipients=None, mode="dry_run")
    save(now, name="B", routes=[{"action": "record", "recipients": {"groups": ["Empty"]}}])


def test_saving_one_integration_compiles_no_other_again(now: datetime) -> None:
    first, second = (save(now, name=name, token=None) for name in ("First", "Second"))
    registry = IntegrationRegistry()
    registry.refresh()
    unchanged, outdated = registry.get(first.pk).normalizer, registry.get(second.pk).normalizer
    save(now, second, name="Second", filters={"field": "subject", "operator": "contains", "value": "VPN"})
    registry.refresh()
    assert registry.get(first.pk).normalizer is unchanged
    assert registry.get(second.pk).normalizer is not outdated


def test_an_integration_reads_back_as_it_was_written(now: datetime) -> None:
    whole = spec(
        source="Halo",
        group="Desk",
        mode="dry_run",
        recipients={"users": ["bob"], "groups": ["Desk"]},
        settings={"halo_address": "https://acme.haloitsm.com", "fail_open": False, "statuses": {"1": "New"}},
        mapping={"subject": {"paths": ["a", "b"]}},
        rules={"open": {"field": "source_status", "operator": "contains", "value": "New"}},
        filters={"not": {"field": "ticket_type", "operator": "equals", "value": "Project"}},
        routes=[
            {
                "name": "Night",
                "when": {"field": "client", "operator": "equals", "value": "Globex"},
                "during": {"not": "Office hours"},
                "escalation_policy": "Standard",
                "recipients": {"users": ["alice"], "groups": ["Desk"]},
                "priority": "critical",
            },
            {"during": "Office hours", "action": "record"},
        ],
        dedup_key="<ticket^id>",
    )
    integration = commands.save_integration(whole, actor=ACTOR, now=now)
    assert commands.integration_spec(integration) == whole
    assert "token" not in commands.integration_spec(integration)
    assert commands.integration_spec(integration, with_secrets=True)["token"] == secrets.token_of(integration)


def test_routes_keep_to_their_objects_when_those_are_renamed(now: datetime) -> None:
    integration = save(now, routes=[{"escalation_policy": "standard", "during": "office HOURS"}])
    version = integration.current_version_id
    User.objects.filter(username="alice").update(username="alicia")
    policy = integration.policy
    assert policy is not None
    policies.save_policy({**policies.policy_spec(policy), "name": "Renamed"}, existing=policy, actor=ACTOR, now=now)
    read = commands.integration_spec(Integration.objects.get())
    assert read["routes"] == [{"escalation_policy": "Renamed", "during": "Office hours"}]
    commands.save_integration(read, existing=Integration.objects.get(), actor=ACTOR, now=now)
    assert Integration.objects.get().current_version_id == version


def test_only_changes_of_message_decisions_create_a_version(now: datetime) -> None:
    integration = save(now)
    version = ConfigVersion.objects.get().version
    entries = AuditEntry.objects.count()
    save(now, integration)
    assert (ConfigVersion.objects.get().version, AuditEntry.objects.count()) == (version, entries)
    save(now, integration, mode="dry_run")
    assert IntegrationVersion.objects.count() == 1
    assert ConfigVersion.objects.get().version > version
    first = IntegrationVersion.objects.get()
    save(now, integration, filters={"field": "client", "operator": "exists"})
    assert [row.number for row in IntegrationVersion.objects.order_by("number")] == [1, 2]
    assert IntegrationVersion.objects.get(number=1).definition == first.definition == {}
    assert Integration.objects.get().current_version == IntegrationVersion.objects.get(number=2)


def test_legacy_custom_fields_continue_under_their_own_heading(now: datetime) -> None:
    integration = save(now, mapping={"custom": {"wing": "ticket^wing"}})
    IntegrationVersion.objects.update(definition={"mapping": {"wing": "ticket^wing", "subject": "ticket^summary"}})
    shown = commands.integration_spec(Integration.objects.get(pk=integration.pk))
    assert shown["mapping"] == {"subject": "ticket^summary", "custom": {"wing": "ticket^wing"}}
    registry = IntegrationRegistry()
    registry.refresh()
    assert "wing" in registry.get(integration.pk).normalizer.mapping.names


def test_a_kind_stays_what_it_was(now: datetime) -> None:
    integration = save(now)
    with pytest.raises(Rejected) as raised:
        save(now, integration, kind="api")
    assert raised.value.field == "kind"


def test_custom_token_is_accepted_and_unique_per_integration(now: datetime) -> None:
    integration = save(now, token=TOKEN)
    assert secrets.token_of(integration) == TOKEN
    assert secrets.url_of(integration).endswith(f"/in/{TOKEN}")
    with pytest.raises(Rejected, match="another integration"):
        save(now, name="Other", token=TOKEN)
    secrets.rotate_token(integration, actor=ACTOR, now=now)
    with pytest.raises(Rejected, match="in use by another integration, or was"):
        save(now, name="Other", token=TOKEN)
    with pytest.raises(Rejected, match="used by this integration before"):
        save(now, Integration.objects.get(), token=TOKEN)


def test_missing_token_is_generated_once_and_kept(now: datetime) -> None:
    integration = save(now)
    token = secrets.token_of(integration)
    assert len(token) == 32
    assert set(token) <= set("0123456789abcdef")
    save(now, integration, mode="dry_run")
    assert secrets.token_of(Integration.objects.get()) == token


def test_a_rotated_token_works_until_its_overlap_is_over(now: datetime) -> None:
    integration = save(now, token=TOKEN)
    fresh = secrets.rotate_token(integration, overlap=timedelta(hours=1), actor=ACTOR, now=now)
    registry = IntegrationRegistry()
    registry.refresh()
    for token, seconds, expected in ((fresh, 0, False), (TOKEN, 3599, False), (TOKEN, 3600, True)):
        token_lookup = registry.find(token_hash(token), now + timedelta(seconds=seconds))
        assert token_lookup is not None
        assert (token_lookup.integration.id, token_lookup.is_expired) == (integration.pk, expected)
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.object_name) == ("rotate_token", "HaloITSM")
    assert TOKEN not in str(AuditEntry.objects.values())
    assert fresh not in str(AuditEntry.objects.values())
    for overlap in (timedelta(days=-1), timedelta(days=31)):
        with pytest.raises(Rejected, match="overlap"):
            secrets.rotate_token(integration, overlap=overlap, actor=ACTOR, now=now)


def test_a_rotation_to_the_current_token_is_refused(now: datetime) -> None:
    integration = save(now, token=TOKEN)
    with pytest.raises(Rejected, match="choose another"):
        secrets.rotate_token(integration, token=TOKEN, actor=ACTOR, now=now)


def test_omitted_credentials_and_secret_parts_are_kept(now: datetime) -> None:
    given = {"basic": {"username": "halo", "password": "p1"}, "hmac": {"header": "X-Signature", "secret": "s1"}}
    integration = save(now, credentials=given)
    assert secrets.credentials_of(integration) == given
    save(now, integration)
    assert secrets.credentials_of(Integration.objects.get()) == given
    shown = commands.integration_spec(integration)
    assert shown["credentials"] == {"basic": {"username": "halo"}, "hmac": {"header": "X-Signature"}}
    entries = AuditEntry.objects.count()
    commands.save_integration(shown, existing=Integration.objects.get(), actor=ACTOR, now=now)
    assert AuditEntry.objects.count() == entries
    save(now, Integration.objects.get(), credentials={"basic": {"username": "halo", "password": "p2"}})
    assert secrets.credentials_of(Integration.objects.get()) == {"basic": {"username": "halo", "password": "p2"}}
    assert AuditEntry.objects.count() == entries + 1
    save(now, Integration.objects.get(), credentials={})
    assert Integration.objects.get().credentials == ""
    assert not any(secret in str(AuditEntry.objects.values()) for secret in ("p1", "p2", "s1"))


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"basic": {"username": "halo", "password": "p1"}}, "basic.password"),
        ({"header": {"name": "X-Key", "value": "v"}}, "header.value"),
        ({"hmac": {"header": "X-Signature", "secret": "s1"}}, "hmac.secret"),
        ({"imap": {"mailbox": "imaps://alerts@imap.example.org", "password": "p1"}}, "imap.password"),
    ],
)
def test_signing_secret_cannot_be_emptied(now: datetime, given: dict[str, dict[str, str]], place: str) -> None:
    integration = save(now, credentials=given)
    kind, secret = place.split(".")
    for empty in ("", "  "):
        with pytest.raises(Rejected) as refused:
            save(now, integration, credentials={kind: {**given[kind], secret: empty}})
        assert refused.value.fields == {f"credentials.{place}": f"credentials.{place}: is required."}
    assert secrets.credentials_of(Integration.objects.get()) == given


def test_signature_header_is_known_by_kind_or_must_be_given(now: datetime) -> None:
    slack = save(now, name="Slack", kind="slack", credentials={"hmac": {"secret": "s"}})
    assert secrets.credentials_of(slack) == {"hmac": {"header": "X-Slack-Signature", "secret": "s"}}
    other = save(now, name="Proxy", kind="slack", credentials={"hmac": {"header": "X-Other", "secret": "s"}})
    assert secrets.credentials_of(other)["hmac"]["header"] == "X-Other"
    zendesk = save(now, name="Zendesk", kind="zendesk", credentials={"hmac": {"secret": "s"}})
    default = {"header": "X-Zendesk-Webhook-Signature", "timestamp_header": "X-Zendesk-Webhook-Signature-Timestamp"}
    assert commands.integration_spec(zendesk)["credentials"]["hmac"] == default
    without = {"hmac": {**default, "timestamp_header": ""}}
    again = save(now, zendesk, name="Zendesk", kind="zendesk", credentials=without)
    assert commands.integration_spec(again)["credentials"] == without, "an empty one turns it off, and is exported"
    with pytest.raises(Rejected, match="is not the name of a header"):
        save(
            now, name="Bad", kind="api", credentials={"hmac": {"header": "X", "secret": "s", "timestamp_header": "a b"}}
        )
    with pytest.raises(Rejected, match="required"):
        save(now, name="Api", kind="api", credentials={"hmac": {"secret": "s"}})


def test_saved_credentials_are_required_by_the_webhook(now: datetime) -> None:
    integration = save(now, credentials={"header": {"name": "X-Key", "value": "v"}})
    registry = IntegrationRegistry()
    with database.transaction() as connection:
        registry.load(connection)
    credentials = registry.get(integration.pk).credentials
    assert credentials.are_required
    assert (credentials.header, credentials.header_value) == ("X-Key", "v")


def test_saved_integration_receives_messages_and_applies_its_routes(now: datetime) -> None:
    integration = save(
        now, source="Halo", routes=[{"during": "Office hours", "escalation_policy": "Standard", "priority": "low"}]
    )
    registry = IntegrationRegistry()
    registry.refresh()
    door = registry.get(integration.pk)
    assert door.source == "Halo"
    assert door.policy_id == integration.policy_id
    (route,) = door.normalizer.routes
    assert route.choice.policy == integration.policy_id
    assert route.during is not None
    assert str(route.during.describe()) == "during Office hours", "a reason names the hours, not their number"
    assert door.in_hours(route.during.hours, datetime(2026, 11, 23, 9, tzinfo=UTC))
    assert not door.in_hours(route.during.hours, now)


def test_what_an_integration_needs_is_known_to_be_needed(now: datetime) -> None:
    integration = save(
        now,
        group="Desk",
        recipients={"users": ["bob"], "groups": ["Desk"]},
        routes=[
            {"recipients": {"users": ["alice"]}, "during": {"not": "Office hours"}, "escalation_policy": "Standard"}
        ],
    )
    needed = [hooks.INTEGRATION(name="HaloITSM")]
    alice, bob = (User.objects.get(username=name) for name in ("alice", "bob"))
    assert hooks.references_to("user", alice.pk) == hooks.references_to("user", bob.pk) == needed
    assert integration.group_id is not None
    assert integration.policy_id is not None
    assert hooks.references_to("group", integration.group_id) == needed
    assert set(hooks.references_to("escalation_policy", integration.policy_id)) == set(needed)
    (hours,) = oncall.SupportHours.objects.all()
    assert hooks.references_to("support_hours", hours.pk) == needed
    assert hooks.references_to("user", 10**9) == []


def test_integration_with_delayed_alerts_is_not_deleted(now: datetime) -> None:
    integration = save(now)
    waits = {"integration": integration, "delay_reason": "wait", "since": now, "due_at": now}
    DelayedAlert.objects.create(key_hash=bytes(32), **waits)
    with pytest.raises(Rejected, match="1 delayed alert") as raised:
        commands.delete_integration(integration, actor=ACTOR, now=now)
    assert raised.value.code == "in_use"
    DelayedAlert.objects.create(key_hash=bytes([1] * 32), **waits)
    with pytest.raises(Rejected, match="2 delayed alerts"):
        commands.delete_integration(integration, actor=ACTOR, now=now)
    assert DelayedAlert.objects.count() == 2
    DelayedAlert.objects.all().delete()
    commands.delete_integration(integration, actor=ACTOR, now=now)
    assert not Integration.objects.exists()


def test_integration_with_active_alerts_is_not_deleted_until_they_end(now: datetime) -> None:
    integration = save(now)
    Alert.objects.create(subject="x", integration=integration, opened_at=now, last_message_at=now)
    with pytest.raises(Rejected, match="1 active alert") as raised:
        commands.delete_integration(integration, actor=ACTOR, now=now)
    assert raised.value.code == "in_use"
    Alert.objects.update(status="closed")
    commands.delete_integration(Integration.objects.get(), actor=ACTOR, now=now)
    assert not Integration.objects.exists()
    assert not IntegrationVersion.objects.exists()
    assert Alert.objects.get().integration_id is None
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.object_name) == ("delete", "HaloITSM")
    assert entry.before["token"] == "•••"


def test_renamed_integration_keeps_alerts_and_its_old_name_is_separate(now: datetime) -> None:
    status = {"field": "source_status", "operator": "equals"}
    more = {"mapping": {"source_id": "id", "source_status": "status"}, "kind": "api",
            "rules": {"open": {**status, "value": "New"}, "close": {**status, "value": "Closed"}}}  # fmt: skip
    ingest = Ingest()

    def send(integration: Integration, message: str) -> str:
        (stored,) = ingest.send(integration, {"id": "1", "status": message})
        return stored.status.value

    first = save(now, name="Monitoring", **more)
    assert send(first, "New") == "Mapped Opened"
    first = save(now, first, name="Monitoring of Zurich", **more)
    assert send(first, "New") == "Mapped Appended"
    assert "keyed" not in str(commands.integration_spec(first))
    assert (first.dedup_namespace, first.settings) == ("Monitoring", {})
    # A setting is changed, and the name once more: nothing of that is about its keys.
    first = save(now, first, name="Monitoring of Zurich", settings={"fail_open": False}, **more)
    first = save(now, first, name="Zurich", **more)
    second = save(now, name="Monitoring", **more)
    assert send(second, "New") == "Mapped Opened"
    assert send(save(now, second, name="Monitoring", mode="dry_run", **more), "New") == "Mapped Appended"
    assert send(first, "Closed") == "Mapped Closed"
    assert Alert.objects.get(status="open").integration_id == second.pk


def test_two_halos_with_equal_ticket_numbers_share_no_alerts(now: datetime) -> None:
    acme, beta = {"halo_address": "https://acme.haloitsm.com"}, {"halo_address": "beta.haloitsm.com/"}
    first = save(now, settings=acme)
    with pytest.raises(Rejected) as refused:
        save(now, name="Beta", settings=beta)
    assert (refused.value.code, refused.value.field) == ("shared_source", "source")
    assert refused.value.detail == (
        'source: "HaloITSM" is also the Source of HaloITSM, which receives tickets from acme.haloitsm.com, not '
        "beta.haloitsm.com. Tickets with the same number would share an alert. Use a different Source, such as "
        "HaloITSM beta.haloitsm.com."
    )
    second = save(now, name="Beta", settings=beta, source="Beta's Halo")
    ingest = Ingest()
    ticket = {"ticket_id": 7, "status": "New", "summary": "VPN"}
    sent = [ingest.send(integration, ticket)[0].status.value for integration in (first, second, first)]
    assert sent == ["Mapped Opened", "Mapped Opened", "Mapped Appended"]
    # One Halo may post to several doors, and an address that nobody entered tells nothing.
    save(now, name="VIP", settings=acme)
    third = save(now, name="Gamma")
    outbound = OutboundIntegration.objects.create(
        name="Gamma", kind="haloitsm", settings={"base_url": "https://gamma.haloitsm.com"}, created_at=now
    )
    with pytest.raises(Rejected, match=r"not gamma\.haloitsm\.com"):
        save(now, third, name="Gamma", outbound=outbound.name)


def test_deleted_integration_cannot_be_compiled(now: datetime) -> None:
    integration = save(now)
    registry.INTEGRATIONS.delete(Integration.objects.get(), actor=ACTOR, now=now)
    with pytest.raises(Rejected) as raised:
        compile_stored(integration)
    assert raised.value.reason.code == "{integration} was deleted."
