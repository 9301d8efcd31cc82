"""The status page of a client: what a client observer sees, by a token in the URL."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from tests.support.company import make_user
from tests.support.walls import Side, build_side
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED, TokenLimits, TokenScope
from tocsin.alerts.models import Alert
from tocsin.core.runtime import clock
from tocsin.people.changes import api_tokens
from tocsin.people.models import User

OURS, THEIRS = "qaoursq", "qbtheirsq"


@pytest.fixture
def sides(database: str) -> tuple[Side, Side]:
    now = clock.now()
    return build_side(OURS, now), build_side(THEIRS, now)


def make_token(*clients: str, name: str = "status") -> tokens.NewToken:
    owner = User.objects.filter(username="alice").first() or make_user("alice", "admin")
    limits = TokenLimits(TokenScope.READ, clients=frozenset(clients))
    return tokens.create(owner, name, limits=limits, actor=COMMAND_LINE, now=clock.now())


def text_of(path: str, client: Client | None = None) -> str:
    answer = (client or Client()).get(path)
    assert answer.status_code == 200, path
    assert not answer.cookies
    assert "frame-ancestors 'none'" in answer["Content-Security-Policy"]
    assert (answer["Referrer-Policy"], answer["Cache-Control"]) == ("no-referrer", "no-store")
    return answer.content.decode()


def test_status_page_shows_alerts_history_and_reports_only(sides: tuple[Side, Side]) -> None:
    page = f"/status/{make_token(f'client {OURS}').secret}/"
    own = Alert.objects.filter(integration=sides[0].integration, status="open").earliest("pk").pk
    foreign = Alert.objects.filter(integration=sides[1].integration).earliest("pk").pk
    shown = {path: text_of(page + path) for path in ("", "history/", "reports/", f"{own}/")}
    assert f"Alert one {OURS}" in shown[""]
    assert f"Alert three {OURS}" in shown["history/"]
    assert f"Alert one {OURS}" in shown[f"{own}/"]
    assert "summary-tiles" in shown["reports/"]
    internal = [f"{word} {OURS}" for word in ("Responder", "Integration", "Group", "Long", "Note")]
    for path, text in shown.items():
        assert not [word for word in (THEIRS, "alice", "<script", "csrf", *internal) if word in text], path
    assert Client().get(f"{page}{foreign}/").status_code == 404
    assert Client().post(page).status_code == 405


def test_status_page_ignores_the_session_of_its_reader(sides: tuple[Side, Side]) -> None:
    page = f"/status/{make_token(f'Client {OURS}').secret}/"
    client = Client()
    client.force_login(sides[1].manager, backend="django.contrib.auth.backends.ModelBackend")
    client.cookies["tocsin_csrf"] = "x" * 32
    text = text_of(page, client)
    assert f"Alert one {OURS}" in text
    assert THEIRS not in text


def test_status_page_ends_with_its_token(sides: tuple[Side, Side]) -> None:
    made = make_token(f"Client {OURS}")
    assert Client().get(f"/status/{made.secret}/").status_code == 200
    tokens.revoke(made.token, actor=COMMAND_LINE, now=clock.now())
    assert Client().get(f"/status/{made.secret}/").status_code == 404
    expired = make_token(f"Client {OURS}", name="expired")
    type(expired.token).objects.filter(pk=expired.token.pk).update(expires_at=clock.now() - timedelta(seconds=1))
    assert Client().get(f"/status/{expired.secret}/").status_code == 404


def test_a_token_without_clients_opens_no_status_page(sides: tuple[Side, Side]) -> None:
    owner = sides[0].responder
    whole = tokens.create(owner, "whole", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    for secret in (whole.secret, "0" * 32, "none"):
        answer = Client().get(f"/status/{secret}/")
        assert answer.status_code == 404
        assert not answer.cookies


def test_revoking_a_token_revokes_those_that_it_made(sides: tuple[Side, Side]) -> None:
    owner = sides[0].manager
    first = tokens.create(owner, "first", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    client = Client()
    second = client.post(
        "/api/v1/tokens", {"name": "second", "clients": [f"Client {OURS}"]}, content_type="application/json",
        headers={"authorization": f"Bearer {first.secret}"},
    ).json()  # fmt: skip
    assert second["status_page"] == f"http://testserver/status/{second['token']}/"
    made = tokens.verify(second["token"], now=clock.now())
    assert made is not None
    third = api_tokens.create_token(
        owner, "third", scope=TokenScope.READ, clients=made.clients, maker=made, actor=COMMAND_LINE, now=clock.now()
    )
    other = tokens.create(owner, "other", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    tokens.revoke(first.token, actor=COMMAND_LINE, now=clock.now())
    for secret in (second["token"], third.secret):
        assert tokens.verify(secret, now=clock.now()) is None
    assert tokens.verify(other.secret, now=clock.now()) is not None
