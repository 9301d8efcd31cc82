"""Every API error has one format and exposes nothing internal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.http import UnreadablePostError
from django.test import RequestFactory

from tests.support.postgres import TAKES_NO_WRITES, in_use
from tests.web.api.conftest import Api, ApiResponse, Company
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.roles import UNLIMITED
from tocsin.api import errors
from tocsin.core.runtime import clock
from tocsin.people.models import User


def refused(answer: ApiResponse, status: int, code: str, *fields: str) -> str:
    """Asserts that `answer` is an error in its one shape, about those fields; gives its text."""
    assert (answer.status, answer.body and answer.body.get("error")) == (status, code), answer
    assert set(answer.body) == {"error", "detail", *["field"][: len(fields)], *["fields"][: len(fields) // 2]}
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert set(answer.fields) == set(fields)
    assert answer.body["detail"]
    return str(answer.body["detail"])


def test_missing_token_error_explains_authentication(company: Company) -> None:
    answer = Api().get("alerts")
    assert "Authorization: Bearer" in refused(answer, 401, "not_authenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer ", "Bearer", "Basic YWxpY2U6eA==", "Bearer a b", "é"])
def test_a_wrong_credential_is_not_authenticated(company: Company, header: str) -> None:
    answer = Api()._send("get", "alerts", headers={"Authorization": header})
    refused(answer, 401, "not_authenticated")


def test_revoked_tokens_and_tokens_of_disabled_users_are_rejected(company: Company) -> None:
    made = tokens.create(company.bob, "script", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now())
    assert Api(made.secret).get("alerts").status == 200
    company.bob.is_active = False
    company.bob.save()
    refused(Api(made.secret).get("alerts"), 401, "not_authenticated")
    company.bob.is_active = True
    company.bob.save()
    tokens.revoke(made.token, actor=COMMAND_LINE, now=clock.now())
    refused(Api(made.secret).get("alerts"), 401, "not_authenticated")


def test_read_only_database_still_serves_reads(company: Company, database: str) -> None:
    secret = tokens.create(company.alice, "script", limits=UNLIMITED, actor=COMMAND_LINE, now=clock.now()).secret
    with in_use(f"{database}{TAKES_NO_WRITES}"):
        answers = {noun: Api(secret).get(noun).status for noun in ("alerts", "users", "groups", "integrations")}
        written = Api(secret).post("groups", {"name": "Another"})
    assert set(answers.values()) == {200}, answers
    assert "takes no writes" in refused(written, 503, "temporary")


def test_a_wrong_token_is_refused_although_a_session_is_there(company: Company) -> None:
    caller = Api("wrong")
    caller.client.force_login(company.alice)
    refused(caller.get("alerts"), 401, "not_authenticated")


def test_each_wrong_field_is_named_where_several_are(admin: Api) -> None:
    answer = admin.post("calendar-feeds", {"colour": 1})
    refused(answer, 400, "invalid", "kind", "colour")
    assert answer.body["field"] == "kind"
    assert answer.body["fields"] == {"kind": "is required.", "colour": "is not known here"}


def test_error_is_in_the_language_that_the_request_asks_for(admin: Api) -> None:
    answer = admin._send("get", "groups/Nights", headers={"Accept-Language": "de"})
    assert answer.body is not None
    assert answer.body["detail"] == "Gruppe Nights gibt es nicht."
    field = admin.send("POST", "calendar-feeds", {"colour": 1}, **{"Accept-Language": "de"})
    assert field.body is not None
    assert "ist hier nicht bekannt" in field.body["detail"]


def test_unknown_address_returns_404(admin: Api) -> None:
    for path in ("nonsense", "alerts/1/nonsense", "alerts/x", "alerts/", "", "users/a%2Fb"):
        refused(admin.get(path), 404, "not_found")


def test_wrong_method_error_lists_allowed_methods(admin: Api) -> None:
    answer = admin.send("DELETE", "alerts")
    assert "DELETE is not possible here" in refused(answer, 405, "method_not_allowed")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST"}


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("alerts?limit=0", "limit"),
        ("alerts?limit=501", "limit"),
        ("alerts?limit=ten", "limit"),
        ("alerts?cursor=nonsense", "cursor"),
        ("alerts?cursor=%C3%A9", "cursor"),
        ("alerts?cursor=LTE", "cursor"),
        ("alerts?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "cursor"),
        ("alerts?status=odd", "status[0]"),
        ("alerts?status=open&status=odd", "status[1]"),
        ("alerts?integration=nobody", "integration"),
        ("alerts?integration=99999999999999999999999", "integration"),
        ("alerts?acknowledged_by=nobody", "acknowledged_by"),
        ("alerts?opened_after=yesterday", "opened_after"),
        ("alerts?opened_after=2026-01-01T00:00:00", "opened_after"),
        ("alerts?opened_after=0001-01-01T00:00:00%2B10:00", "opened_after"),
        ("alerts?subject=%00", "subject"),
        ("alerts/1/events?kind=odd", "kind"),
        ("workflows?trigger=odd", "trigger"),
        ("mail-replies?outcome=odd", "outcome"),
        ("notifications?channel=odd", "channel"),
        ("deliveries?channel=odd", "channel"),
        ("sandbox-messages?channel=odd", "channel"),
        ("contact-methods?channel=odd", "channel"),
        ("providers?channel=odd", "channel"),
        ("deliveries?alert_id=0", "alert_id"),
        ("deliveries?alert_id=99999999999999999999", "alert_id"),
        ("deliveries?notification_id=7", "notification_id"),
        ("deliveries?user=nobody", "user"),
        ("deliveries?cursor=MQ", "cursor"),
        ("groups?member=nobody", "member"),
        ("audit-log?at_after=1", "at_after"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(admin: Api, path: str, field: str) -> None:
    refused(admin.get(path), 400, "invalid", field)


@pytest.mark.parametrize("path", ["alerts?staus=open", "alerts/1?expand=x", "users?limit=5&query=", "settings?x=1"])
def test_an_unknown_parameter_is_refused_and_named(admin: Api, path: str) -> None:
    answer = admin.get(path)
    name = path.rpartition("?")[2].rpartition("&")[2].partition("=")[0]
    assert name in refused(answer, 400, "unknown_parameter", name)


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", "invalid_json", "line 1 column 2"),
        (b'{"note":\n "a" "b"}', "invalid_json", "line 2"),
        (b"\xff\xfe", "invalid_json", "UTF-8"),
        (b'{"note": NaN}', "invalid_json", "NaN"),
        (b"[" * 100_000, "invalid_json", "nested"),
        (b'{"note": "\\u0000"}', "invalid", "NUL"),
        (b'{"note": "\\ud800"}', "invalid", "surrogate"),
        (b"[]", "invalid", "body"),
        (b"null", "invalid", "body"),
        (b'"text"', "invalid", "body"),
        (b'{"note": 7}', "invalid", "note"),
        (b'{"unknown": 1}', "invalid", "unknown"),
        (b'{"seen_at": "2026-01-01T00:00:00"}', "invalid", "seen_at"),
        (b'{"seen_at": "0001-01-01T00:00:00+10:00"}', "invalid", "seen_at"),
    ],
)
def test_invalid_body_error_names_its_location(admin: Api, open_alert: Any, body: bytes, code: str, words: str) -> None:
    answer = admin.post(f"alerts/{open_alert()}/acknowledge", body)
    assert (answer.status, answer.body["error"]) == (400, code)
    assert words in answer.body["detail"]


def test_a_body_over_five_megabytes_is_too_large(admin: Api) -> None:
    refused(admin.post("groups", b'{"name": "' + b"x" * (5 * 1024 * 1024) + b'"}'), 413, "too_large")


def test_internal_error_is_logged_with_id_and_not_exposed(admin: Api, caplog: pytest.LogCaptureFixture) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE alerts_alert RENAME COLUMN subject TO topic")
    with caplog.at_level(logging.ERROR):
        answer = admin.get("alerts")
    detail = refused(answer, 500, "internal")
    assert "topic" not in detail
    assert "subject" not in detail
    number = detail.partition("logged as ")[2].partition(".")[0]
    assert len(number) == 8
    assert any(number in record.getMessage() for record in caplog.records)


def test_database_timeout_is_reported_as_retryable(admin: Api, database: str) -> None:
    with psycopg.connect(database) as other, connection.cursor() as cursor:
        other.execute("LOCK TABLE alerts_alert IN ACCESS EXCLUSIVE MODE")
        cursor.execute("SET statement_timeout = '50ms'")
        answer = admin.get("alerts")
    refused(answer, 503, "temporary")
    assert answer.headers["Retry-After"] == "5"
    assert admin.get("alerts").status == 200


def test_answers_are_not_kept_by_caches(admin: Api) -> None:
    assert admin.get("alerts").headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ([{"before": "1d"}], "body", "body: must be an object"),
        ({"reminders": "1d"}, "reminders", "reminders: must be a list"),
    ],
)
def test_value_of_wrong_type_uses_the_api_error_format(admin: Api, body: Any, place: str, message: str) -> None:
    detail = refused(admin.put("reminders", body), 400, "invalid", place)
    assert message in detail
    assert "Input" not in detail


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (UnreadablePostError("the client hung up"), 400, "The body could not be read."),
        (psycopg.InterfaceError("the connection is closed"), 503, "The database does not answer. Try again."),
    ],
)
def test_lost_connection_is_answered_with_its_cause(error: Exception, status: int, detail: str) -> None:
    answer = errors.unexpected(RequestFactory().post("/api/v1/groups"), error)
    assert (answer.status_code, json.loads(answer.content)["detail"]) == (status, detail)


def test_only_the_user_or_an_administrator_shows_masked_addresses(
    company: Company, caller: Callable[[User], Api]
) -> None:
    answer = caller(company.bob).post(f"groups/{company.desk.name}/members/alice/show-addresses")
    assert refused(answer, 403, "forbidden") == "Only alice or an administrator may do this."
