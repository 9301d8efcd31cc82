"""Which request is rejected for which reason: a table, asked of one company that has one object of each type."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import api_examples
from tests.support.api_examples import ApiObjects
from tests.web.api.conftest import Api, Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.core.errors import Rejected
from tocsin.core.reasons import REASON_TYPES
from tocsin.core.runtime import clock
from tocsin.inbound.maintenance_commands import end_now, save_window
from tocsin.outbound.models import Call
from tocsin.workflows.models import WorkflowRun

POLICIES = "escalation-policies"
POLICY = {"name": "Another", "steps": [{"notify": {"users": ["bob"]}}]}
HTTP = {"name": "Chat", "kind": "http", "url": "https://chat.example.org/hook"}
HALO = {"name": "Halo", "kind": "haloitsm", "base_url": "https://halo.example.org", "client_id": "c",
        "client_secret": "s"}  # fmt: skip
WINDOW = {"name": "Patches", "starts": "2030-01-01 00:00", "ends": "2030-01-02 00:00"}
FUTURE = {"from": "2030-01-01T00:00:00Z", "to": "2030-01-02T00:00:00Z"}
SWAP = {**FUTURE, "schedule": "{schedule_name}"}
PAST = {"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"}


def workflow(**action: Any) -> dict[str, Any]:
    return {"name": "Another", "trigger": "opened", "actions": [action]}


def policy_step(**given: Any) -> dict[str, Any]:
    return {**POLICY, "steps": [{"notify": {"users": ["bob"]}, **given}]}


def ends_with(**given: str) -> dict[str, Any]:
    return {**POLICY, "end": given}


#: Method, path, body, and the code of a reason in the answer.
REJECTIONS: list[tuple[str, str, Any, str]] = [
    ("POST", "out-of-office", {**FUTURE, "covers": ["bob"]}, "must map groups to users, such as {example}."),
    ("POST", "out-of-office", {**FUTURE, "covers": {"Service Desk": 7}}, '"{group}" requires a username.'),
    ("POST", "out-of-office", PAST, "must be in the future."),
    ("PUT", "out-of-office/{absence}", {**FUTURE, "user": "bob"}, "An absence stays with its user; add one to the "
    "other user instead."),
    ("POST", "out-of-office", {**FUTURE, "user": 7}, "must be a user's name."),
    ("PUT", "contact-methods/{method}", {"user": "bob"}, "A contact method stays with its user; add one to the "
    "other user instead."),
    ("POST", "contact-methods/{bobs_method}/send-code", None, "Contact method not found."),
    ("POST", "contact-methods/{bobs_method}/ring", {"rings_silenced": True}, "Contact method not found."),
    ("POST", "groups/Network/contacts/Nothing/test", None, 'No contact named "{contact}" in {group}.'),
    ("GET", "outbound-integrations/{outbound}/calls/999999", None, "{integration} has no call {call}."),
    ("GET", "workflows/{workflow}/runs/999999", None, "{workflow} has no run {run}."),
    ("POST", "imports", {"product": "opsgenie", "export": "!"}, "must be base64."),
    ("POST", "imports", {"product": "nagios", "key": "k"}, '"{product}" is not one of {products}.'),
    ("POST", "swaps/{swap}/decline", None, "Only the requested user may decline."),
    ("POST", "workflows", workflow(do="notify", users=["bob"], contacts=True), "requires a group whose contacts are "
    "notified."),
    ("POST", "workflows", workflow(do="add_responders"), "users, groups or leads to page are required."),
    ("POST", "workflows", workflow(do="call", outbound="{outbound_name}"), "is not an HTTP call; for HaloITSM use "
    "`do: halo`."),
    ("POST", "workflows", workflow(do="set_tags"), "tags to set or names to remove are required."),
    ("POST", "workflows", workflow(do="set_tags", tags="a"), "must be names with texts."),
    ("POST", "workflows", workflow(do="halo"), "a note or a status is required."),
    ("POST", "workflows/{workflow}/runs/{ended_run}/end", None, "The run has already ended."),
    ("POST", POLICIES, ends_with(then="keep_last_step"), "is required: the interval at which the last step repeats."),
    ("POST", POLICIES, ends_with(then="nothing", every="5m"), "does not apply to `then: {action}`."),
    ("POST", POLICIES, policy_step(when={"during": 7}), "must be the name of support hours, or {not: NAME}."),
    ("POST", POLICIES, policy_step(when={"tags": "a"}), "must be at most {limit} names with a value each."),
    ("POST", POLICIES, policy_step(methods=[{"label": "x"}] * 99), "has at most {limit} entries; this one has "
    "{entries}."),
    ("PUT", "outbound-integrations/{outbound}", HTTP, "can't be changed; create a new outbound integration for "
    "another type."),
    ("POST", "outbound-integrations", {**HTTP, "headers": {"X Y": "1"}}, "outbound.not_a_header"),
    ("POST", "outbound-integrations", {**HTTP, "headers": ["a"]}, "outbound.not_named_texts"),
    ("POST", "outbound-integrations", {**HALO, "agents": ["bob"]}, "halo.invalid_agents"),
    ("POST", "outbound-integrations", {**HALO, "agents": {"bob": "x"}}, "{user}: enter the agent's number in Halo."),
    ("POST", "outbound-integrations", {**HALO, "sync": {"assign": {"note": 7}}}, "halo.invalid_note"),
    ("POST", "outbound-integrations", {**HALO, "create_ticket": {"on": ["never"]}}, "halo.not_a_trigger"),
    ("POST", "outbound-integrations/{http}/call", {"alert": 999_999}, "alert.not_found"),
    ("GET", "outbound-integrations/{http}/rights", None, "halo.not_halo"),
    ("POST", "outbound-integrations/{outbound}/calls/{sent_call}/drop", None, "It was sent, or is being sent."),
    ("POST", "outbound-integrations/{outbound}/calls/{orphan}/send-again", None, "Its alert no longer exists."),
    ("POST", "alerts/{alert}/ticket", None, "The alert's inbound integration is not connected to a ticket "
    "system, or the alert came from its tickets."),
    ("POST", "maintenance-windows", {**WINDOW, "tags": ["a"]}, "must be named values, such as environment: test."),
    ("POST", "maintenance-windows", {**WINDOW, "tags": {str(n): "x" for n in range(99)}}, "must be at most {maximum}."),
    ("POST", "maintenance-windows/{window}/end", None,
    "Can't end {window}: only active one-time windows can be ended."),
    ("POST", "schedules/{schedule}/hand-over", {**FUTURE, "user": "alice"}, "{user} is already on call."),
    ("POST", "schedules/{schedule}/hand-over", {**FUTURE, "user": "ina"}, "{user} is deactivated."),
    ("POST", "swaps", {**SWAP, "user": "alice"}, "must be a different user."),
    ("POST", "swaps", {**SWAP, "user": "bob", "role": "secondary"}, "{user} is not on call as {role} in {schedule} "
    "from {since} to {until}."),
    ("POST", "holiday-calendars", {"name": "x", "country": "VA", "region": "Rome"}, '"{region}" is not a region of '
    '{country} with its own holidays; the country has none.'),
    ("POST", "holiday-calendars", {"name": "{calendar_name}", "country": "CH"}, 'the name "{name}" is already '
    'in use.'),
    ("PATCH", "support-hours/{hours}", {"holiday_calendars": ["None"]}, 'no holiday calendar named "{name}".'),
    ("POST", "support-hours", {"name": "{hours_name}", "windows": [{"days": ["mon"], "from": "08:00", "to": "18:00"}]},
     'the name "{name}" is already in use.'),
    ("PATCH", "settings", {"phone_region": "C1"}, '"{value}" is not a two-letter country code such as CH.'),
    ("POST", "users", {"username": "eva", "email": "e@example.org", "role": "manager", "clients": ["Acme"]},
     "are possible with the role observer only."),
    ("POST", "groups", {"name": "x" * 999},
    "A name must have at most {maximum} characters, but this one has {length}."),
    ("POST", "push-devices", {"name": "x", "subscription": {"endpoint": "https://p.example.org/1", "keys": "{point}"}},
     "push.secret_invalid"),
    ("POST", "integrations", {"name": "x", "kind": "api", "routes": [{"client_table": "Nothing"}]},
     'unknown client table "{name}".'),
    ("POST", "providers/{provider}/send-test", {"channel": "sms", "address": "+41790000001"},
     '{provider} does not support the channel "{channel}".'),
    ("POST", "providers/{disabled_provider}/send-test", {"channel": "ntfy", "address": "x"}, "{provider} is not "
    "enabled."),
]  # fmt: skip


def says(detail: str, code: str) -> bool:
    """Whether the text of an error contains the sentence of a code, or of a text."""
    template = REASON_TYPES[code].template if code in REASON_TYPES else code
    return re.search(re.sub(r"\\{\w+\\}", ".*", re.escape(template)), detail, re.DOTALL) is not None


def filled_in(value: Any, names: dict[str, Any]) -> Any:
    match value:
        case str():
            return names.get(value[1:-1], value) if value.startswith("{") else value
        case list():
            return [filled_in(one, names) for one in value]
        case dict():
            return {key: filled_in(one, names) for key, one in value.items()}
        case _:
            return value


def objects_of(world: ApiObjects) -> dict[str, Any]:
    """What the paths and bodies of the table refer to."""
    at = clock.now()
    outbound, workflow = api_examples._outbound(world), api_examples._workflow(world)
    http = api_examples.save_outbound(HTTP, **world.by)
    schedule, _ = api_examples._shift_of(world, world.company.alice)
    calendar = api_examples.save_holiday_calendar(api_examples._calendar_spec(world), **world.by)
    hours = api_examples.save_support_hours(api_examples._hours_spec(world), **world.by)
    provider, disabled = api_examples._provider(world), api_examples._provider(world)
    disabled.is_enabled = False
    disabled.save()
    api_examples.User.objects.create(username="ina", email="ina@example.org", is_active=False)

    def call(action: str, status: str) -> int:
        row = Call.objects.create(
            integration=outbound, order_key="a", action=action, status=status, queued_at=at, due_at=at
        )
        return int(row.pk)

    alert = world.open_alert()
    ended = WorkflowRun.objects.create(workflow=workflow, alert_id=alert, status="stopped", created_at=at, ended_at=at)
    return {
        "absence": api_examples._absence(world).pk,
        "method": api_examples._method(world).pk,
        "bobs_method": world.company.bob.contact_methods.get(channel="sms").pk,
        "outbound": outbound.pk,
        "outbound_name": outbound.name,
        "http": http.pk,
        "workflow": workflow.pk,
        "ended_run": ended.pk,
        "sent_call": call("write", "sent"),
        "orphan": call("create", "dead"),
        "swap": api_examples._swap(world, world.company.nadia, world.company.bob).pk,
        "alert": alert,
        "window": api_examples._window(world).pk,
        "schedule": schedule.pk,
        "schedule_name": schedule.name,
        "calendar_name": calendar.name,
        "hours": hours.pk,
        "hours_name": hours.name,
        "provider": provider.pk,
        "disabled_provider": disabled.pk,
        "point": {**api_examples._device_spec(world)["subscription"]["keys"], "auth": "short"},
        "uuid": "019abf3c-0000-7000-8000-000000000000",
    }


def test_every_rejection_says_its_reason(company: Company, admin: Api, open_alert: Callable[..., int]) -> None:
    world = ApiObjects(company, company.alice, company.desk, open_alert, "https://ntfy.example.org")
    names = objects_of(world)
    wrong = {}
    for method, path, body, code in REJECTIONS:
        answer = admin.send(method, path.format(**names), filled_in(body, names))
        if answer.status < 400 or not says(answer.body["detail"], code):
            wrong[code] = (method, path, answer.status, answer.body)
    assert not wrong, "\n".join(map(str, wrong.items()))


def test_a_window_that_has_just_begun_cannot_end(company: Company) -> None:
    now = company.now.replace(hour=9, second=10)
    spec = {**WINDOW, "time_zone": "UTC", "starts": f"{now:%Y-%m-%d %H:%M}", "ends": f"{now:%Y-%m-%d} 23:59"}
    window = save_window(spec, actor=COMMAND_LINE, now=now)
    with pytest.raises(Rejected) as rejected:
        end_now(window, actor=COMMAND_LINE, now=now)
    assert (rejected.value.reason.code, rejected.value.reason.data) == (
        "{window} has only just started. Delete it, or end it in a minute.", {"window": "Patches"},
    )  # fmt: skip
