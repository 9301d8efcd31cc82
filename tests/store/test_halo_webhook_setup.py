"""Where the setup of the webhook in HaloITSM stops, and what it reports of an unusual Halo."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from tests.doubles.halo import FORBIDDEN, FakeResponse
from tests.support.halo_pair import HaloPair
from tests.support.people import ACTOR
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Reason, each_of
from tocsin.inbound.admin import commands as integrations
from tocsin.outbound.connectors.haloitsm.client import HaloClient
from tocsin.outbound.connectors.interfaces import IntegrationAccount, RecordedClient
from tocsin.outbound.halo_sync import halo_commands, webhook_setup

#: The URL of the webhook that `both` has, and another.
URL, NEW_URL = "http://tocsin/in/x", "http://tocsin/in/new"

type Answers = Mapping[tuple[str, str], Sequence[FakeResponse | None]]


def set_up(both: HaloPair, url: str = URL, *, is_test_sent: bool = True) -> webhook_setup.WebhookSetupResult:
    account = IntegrationAccount(
        1, "Halo", {"base_url": both.server.url, "client_id": "tocsin"}, {"client_secret": both.halo.client_secret}
    )
    http_client = RecordedClient(both.directory.client, lambda: both.now)

    def wait(attempt: int) -> bool:
        if is_test_sent:
            both.server.hooks.run()
        return attempt < 3

    halo = HaloClient(account).session(http_client, both.now)
    return webhook_setup.set_up(halo, webhook_setup.DesiredWebhook(url), wait=wait)


def answer(both: HaloPair, answers: Answers) -> None:
    """Halo's answers to a method and path in turn; None where the double answers, as it does afterwards."""
    turns = {request: iter(responses) for request, responses in answers.items()}
    both.server.api.fault = lambda method, path: next(turns.get((method, path), iter(())), None)


def codes(*reasons: Reason) -> list[str]:
    return [one.code for reason in reasons for one in each_of(reason)]


def refuse(webhook: Mapping[str, Any], content: bytes) -> tuple[int, str]:
    return 502, "Bad Gateway"


def drop(webhook: Mapping[str, Any], content: bytes) -> tuple[int, str]:
    raise TimeoutError


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({("POST", "/api/Webhook"): [FakeResponse(201, {"url": URL})]}, "halo.webhook.no_id"),
        ({("GET", "/api/Webhook/hook"): [FakeResponse(200, {"url": NEW_URL})]}, "halo.webhook.url_not_stored"),
        ({("GET", "/api/WebhookEvent"): [FakeResponse(404)]}, "halo.not_found"),
    ],
)
def test_setup_stops_at_an_unexpected_answer(both: HaloPair, answers: Answers, expected: str) -> None:
    answer(both, answers)
    assert codes(set_up(both).problem) == [expected]


def test_url_that_halo_would_cut_off_is_rejected(both: HaloPair) -> None:
    problem = set_up(both, URL + "x" * 500).problem
    assert codes(problem) == ["halo.webhook.url_too_long", "halo.webhook.shorten_base_url"]


@pytest.mark.parametrize(
    ("deliver", "expected"), [(refuse, "halo.webhook.test_answered"), (drop, "halo.webhook.test_unanswered")]
)
def test_setup_stops_if_its_test_does_not_arrive(
    both: HaloPair, deliver: Callable[[Mapping[str, Any], bytes], tuple[int, str]], expected: str
) -> None:
    both.server.hooks.deliver = deliver
    failed, remedy = each_of(set_up(both).problem)
    assert (failed.code, remedy.code) == ("halo.webhook.test_failed", "halo.webhook.allow_halo")
    assert failed["problem"].code == expected  # type: ignore[union-attr]


@pytest.mark.parametrize("url", [URL, NEW_URL])
def test_change_that_cannot_be_undone_is_reported(both: HaloPair, url: str) -> None:
    posts = iter([None])

    def fault(method: str, path: str) -> FakeResponse | None:
        """Halo lets Tocsin save the webhook, and then neither enable, nor restore, nor delete it."""
        if (method, path) == ("POST", "/api/Webhook"):
            return next(posts, FORBIDDEN)
        return FORBIDDEN if method == "DELETE" else None

    both.server.api.fault = fault
    done = set_up(both, url)
    assert each_of(done.problem)[0].code == "halo.forbidden"
    assert "halo.webhook.undo_failed" in codes(*done.steps)
    assert "halo.webhook.undone" not in codes(*done.steps)


def test_setup_succeeds_although_its_test_is_not_logged(both: HaloPair) -> None:
    done = set_up(both, is_test_sent=False)
    assert (done.problem, done.steps[-1].code) == (NO_REASON, "halo.webhook.test_not_logged")


def test_second_webhook_to_the_same_url_is_named(both: HaloPair) -> None:
    both.halo.webhooks["twin"] = {**both.halo.webhooks["hook"], "id": "twin", "name": "Twin"}
    (other,) = [step for step in set_up(both).steps if step.code == "halo.webhook.other"]
    assert other["webhook"] == "Twin"


def test_events_that_this_halo_lacks_are_named(both: HaloPair) -> None:
    answer(both, {("GET", "/api/Lookup"): [FakeResponse(200, [{"id": 3, "name": "New Ticket Logged"}])]})
    (missing,) = [step for step in set_up(both).steps if step.code == "halo.webhook.events_missing"]
    assert "Ticket Deleted" in missing["events"]  # type: ignore[operator]


def test_webhook_needs_an_integration_of_this_halo(both: HaloPair) -> None:
    other = integrations.save_integration(
        {"name": "Elsewhere", "kind": "api", "anyway": True}, actor=ACTOR, now=both.now
    )
    with pytest.raises(Rejected) as rejected:
        halo_commands.set_up_webhook(both.outbound, other, ACTOR, both.now)
    assert rejected.value.reason.code == "halo.not_connected"
