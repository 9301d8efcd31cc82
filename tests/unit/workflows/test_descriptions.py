"""Every trigger and action has a description of its own."""

from __future__ import annotations

import pytest

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.workflows.definition import (
    ACTION_NAMES,
    ActionKind,
    SlaMoment,
    Trigger,
    TriggerKind,
    WorkflowAction,
    WorkflowActionSpec,
    WorkflowDefinition,
    describe_action,
    describe_trigger,
    describe_workflow,
)


def name_of(kind: str, number: int) -> str:
    return f"{kind} {number}"


def recipients(action: WorkflowAction) -> list[str]:
    found = describe_action(action, name_of)["recipients"]
    return [part.code if isinstance(part, Reason) else str(part) for part in found]


def test_every_trigger_and_action_has_its_own_code() -> None:
    triggers = [describe_trigger(Trigger(on=kind, span=300)).code for kind in TriggerKind]
    actions = [describe_action(WorkflowAction(do=kind, priority=Priority.LOW), name_of).code for kind in ActionKind]
    assert len(set(triggers)) == len(TriggerKind)
    assert len(set(actions)) == len(ActionKind)
    assert ACTION_NAMES.keys() == set(ActionKind)
    assert len(set(ACTION_NAMES.values())) == len(ActionKind)


@pytest.mark.parametrize(
    ("trigger", "code", "moment"),
    [
        (Trigger(on=TriggerKind.AFTER_SLA), "At {moment}", "the fix-by time"),
        (Trigger(on=TriggerKind.AFTER_SLA, span=60), "{duration} after {moment}", "the fix-by time"),
        (
            Trigger(on=TriggerKind.BEFORE_SLA, span=60, moment=SlaMoment.RESPOND_BY),
            "{duration} before {moment}",
            "the respond-by time",
        ),
        (
            Trigger(on=TriggerKind.BEFORE_SLA, span=60, moment=SlaMoment.OPENING, within=900),
            "{duration} before {moment}",
            "{duration} after the alert's creation",
        ),
    ],
)
def test_trigger_names_the_moment_that_it_counts_from(trigger: Trigger, code: str, moment: str) -> None:
    described = describe_trigger(trigger)
    assert (described.code, described["moment"].code) == (code, moment)


def test_every_kind_of_recipient_is_described() -> None:
    everybody = WorkflowAction(
        do=ActionKind.NOTIFY,
        users=(1,),
        groups=(2,),
        roles=(MemberRole.PRIMARY,),
        contacts=True,
        leads=True,
        owner=True,
        paged=True,
    )
    assert recipients(everybody) == [
        "users 1",
        "{group} ({roles})",
        "their contacts",
        "the leads of the alert's groups",
        "the assignee",
        "everyone paged",
    ]
    assert recipients(WorkflowAction(do=ActionKind.ADD_RESPONDERS)) == ["no one"]


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (WorkflowAction(do=ActionKind.NOTIFY, by="SMS-Official"), "notify {recipients} by {method}"),
        (WorkflowAction(do=ActionKind.HALO, status="Closed"), "update the ticket, status {status}"),
    ],
)
def test_action_with_more_detail_says_it(action: WorkflowAction, code: str) -> None:
    assert describe_action(action, name_of).code == code


def test_workflow_is_its_trigger_and_actions() -> None:
    action = WorkflowAction(do=ActionKind.SET_TAGS, tags={"team": "web"}, remove=("old",))
    described = describe_workflow(WorkflowDefinition(Trigger(on=TriggerKind.OPENED), actions=(action,)), name_of)
    assert (described.code, described["trigger"].code) == ("{trigger}: {actions}.", "When an alert is created")
    assert [change.code for change in described["actions"][0]["changes"]] == ["alert.tag_value", "alert.tag_removed"]


def test_the_former_key_of_leads_is_read() -> None:
    nobody = {"users": {}, "groups": {}, "policies": {}, "outbound": {}, "outbound_kinds": {}}
    spec = WorkflowActionSpec.read({"do": "notify", "managers": True, "roles": ["manager"]}, **nobody)
    assert spec.written() == {"do": "notify", "leads": True, "roles": ["lead"]}
    with pytest.raises(Rejected, match="managers"):
        WorkflowActionSpec.read({"do": "notify", "leads": True, "managers": True}, **nobody)
    with pytest.raises(Rejected, match="leads"):
        WorkflowActionSpec.read({"do": "notify", "managers": "yes"}, **nobody)
