"""The plugin that finds reason codes without a test counts what Tocsin produces, not what a test builds."""

from __future__ import annotations

import tomllib

import pytest

from tests.support.reason_coverage import EXEMPTIONS, defined_codes, record
from tocsin.core.reasons import joined
from tocsin.notify.inbound import responder_actions
from tocsin.notify.rules import page_planner
from tocsin.notify.text import formatting, render


@pytest.fixture
def produced(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    codes: set[str] = set()
    record(codes, monkeypatch.setattr)
    return codes


def test_reason_built_by_the_product_counts(produced: set[str]) -> None:
    formatting.ask_which_alert(formatting.CommandKind.ACKNOWLEDGE, [1, 2])
    assert produced == {"#{alert}", "{count} alert is open for you: {alerts}. Send {command}, or {command_for_all}."}


def test_reason_built_by_a_test_does_not_count(produced: set[str]) -> None:
    assert str(joined(responder_actions.OPTED_IN(), page_planner.ON_HOLD()))
    assert page_planner.ON_HOLD().data == {}
    assert produced <= {"reason.joined"}


def test_constant_reason_counts_once_it_is_used(produced: set[str]) -> None:
    assert render.TOO_MANY_WRONG.code not in produced
    assert str(render.TOO_MANY_WRONG)
    assert render.TOO_MANY_WRONG.code in produced


def test_constant_within_a_stored_reason_counts(produced: set[str]) -> None:
    assert joined(render.TOO_MANY_WRONG, page_planner.ON_HOLD()).data
    assert produced == {"reason.joined", render.TOO_MANY_WRONG.code}


def test_exempted_codes_exist_and_say_why() -> None:
    exemptions = tomllib.loads(EXEMPTIONS.read_text())
    assert exemptions.keys() <= defined_codes()
    assert all(isinstance(why, str) and len(why) > 20 for why in exemptions.values())
