"""Why a delivery was not tried or is over, and what it was for."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest

from tocsin.alerts.commands import AlertChange, AlertState
from tocsin.alerts.states import AlertStatus, CommandKind, Priority
from tocsin.notify import listener
from tocsin.notify.dispatch import dispatcher, results
from tocsin.notify.dispatch.claim import DeliveryJob
from tocsin.notify.providers.pool import address_problem
from tocsin.notify.rules.pre_send_check import AlertFacts, CancelDelivery, DueDelivery, pre_send_check
from tocsin.notify.states import Purpose
from tocsin.notify.text import render

NOW = datetime.fromisoformat("2026-11-24T09:15:00+00:00")
DUE = DueDelivery(
    UUID(int=1), UUID(int=2), "email", "alice@example.org", Purpose.PAGE, NOW, NOW,
    alert=AlertFacts(42, Priority.HIGH, "VPN down", status=AlertStatus.OPEN), user_id=1, user_name="Alice",
)  # fmt: skip


def test_page_of_a_disabled_user_is_cancelled() -> None:
    decision = pre_send_check(replace(DUE, is_active=False), NOW, address_problem)
    assert isinstance(decision, CancelDelivery)
    assert decision.reason.code == "delivery.recipient_disabled"


@pytest.mark.parametrize("purpose", Purpose)
def test_each_purpose_of_a_delivery_has_a_code(purpose: Purpose) -> None:
    codes = {results.PURPOSES[one].code for one in Purpose}
    assert len(codes) == len(Purpose)


def job(address: str, kind: Any, sender: Any) -> DeliveryJob:
    lead = replace(DUE, address=address)
    provider = SimpleNamespace(kind=kind, sender=sender)
    return cast(DeliveryJob, SimpleNamespace(active_provider=provider, bundle=SimpleNamespace(lead=lead)))


@pytest.mark.parametrize(
    ("has_many_servers", "stuck", "code"),
    [
        (False, ["b@example.org"] * dispatcher.MAX_STUCK, "delivery.provider_stuck"),
        (True, ["a@example.org"], "delivery.address_stuck"),
        (True, ["b@example.org", "c@example.org"], "delivery.provider_stuck"),
    ],
)
def test_stuck_sends_refuse_further_ones(has_many_servers: bool, stuck: list[str], code: str) -> None:
    kind = SimpleNamespace(has_many_servers=has_many_servers, max_concurrent_sends=2)
    sender = object()
    refused = dispatcher.stuck_refusal(
        job("a@example.org", kind, sender), [job(address, kind, sender) for address in stuck]
    )
    assert refused is not None
    assert getattr(refused.error, "code", "") == code


@pytest.mark.parametrize(
    ("status", "code"), [(AlertStatus.CLOSED, "Closed"), (AlertStatus.CANCELLED, "Closed as false alarm")]
)
def test_all_clear_without_actor_or_subject_still_says_what_ended(status: AlertStatus, code: str) -> None:
    before = AlertState(42, AlertStatus.OPEN, Priority.HIGH, NOW)
    outcome = listener._outcome(AlertChange(before, msgspec.structs.replace(before, status=status), ()))
    assert outcome is not None
    assert outcome.code == code
    reason = listener._all_clear(outcome, "", 42)
    assert (reason.code, reason.data["outcome"]["code"]) == ("{outcome}: alert #{alert}. Nothing to do.", code)


def test_rejected_reply_shows_an_example_with_its_text() -> None:
    rejection = render.find_rejection(7, [42], "", CommandKind.REPLY)
    example = rejection.data["example"]
    assert example["code"] == "{command} {alert} text {code}"
    assert example["data"] == {**example["data"], "alert": {"alert": 42}, "code": render.code_of(7, 42)}
