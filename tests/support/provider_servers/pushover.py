"""Pushover's API on loopback behind the kind `pushover` (https://pushover.net/api), with its limits. Nobody answers by
themselves: a test says who acknowledges what, and on which device.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.doubles.http import HttpDouble, Request, Response, http_double
from tests.support.provider_servers.interface import NO_SUCH_ADDRESS, ProviderServer, Signing, refusals
from tocsin.notify.integrations.pushover import PushoverChannel, callback_token
from tocsin.notify.interfaces import ProviderAccount

TOKEN = "azGDORePK8gMaC0QOYAMyEEuzJnyUi"
USER = PushoverChannel.example
OTHER_USER = "uOtherUser9gMaC0QOYAMyEEuzJnyU"
GROUP = "gGroupKey89gMaC0QOYAMyEEuzJnyU"
RESET = int(datetime(2026, 12, 1, 6, tzinfo=UTC).timestamp())


@dataclass
class PushoverDouble:
    """`answers` are given to the next messages instead of taking them; `receipt_answers` to the next questions."""

    http: HttpDouble
    messages: list[dict[str, Any]] = field(default_factory=list)
    answers: list[Response] = field(default_factory=list)
    receipt_answers: list[Response] = field(default_factory=list)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: The tags and receipts whose repeats were ended.
    ended: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    limit: int = 10_000
    used: int = 0
    #: Set to hold the server to its own time: no receipt is asked for twice within five seconds.
    now: Callable[[], datetime] | None = None
    _asked_at: dict[str, datetime] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Response:
        parts = urlsplit(request.path)
        path = parts.path.removeprefix("/1/")
        fields = request.json() if request.method == "POST" else {k: v[0] for k, v in parse_qs(parts.query).items()}
        if path == "messages.json" and self.answers:
            return self.answers.pop(0)
        if fields.get("token") != TOKEN:
            return refusal(400, "application token is invalid", token="invalid")
        match request.method, *path.removesuffix(".json").split("/"):
            case "POST", "messages":
                with self._lock:
                    return self._send(fields)
            case "GET", "apps", "limits":
                return _ok({"limit": self.limit, "remaining": self.limit - self.used, "reset": RESET})
            case "POST", "users", "validate":
                return self._validate(fields["user"])
            case "GET", "receipts", receipt:
                return self._receipt(receipt)
            case "POST", "receipts", "cancel_by_tag", tag:
                return self._end(unquote(tag), [one for one in self.receipts.values() if unquote(tag) in one["tags"]])
            case "POST", "receipts", receipt, "cancel":
                known = [self.receipts[receipt]] if receipt in self.receipts else []
                return self._end(receipt, known) if known else refusal(404, "receipt not found", receipt="not found")
        return Response(404)

    def acknowledge(self, receipt: str, user: str = USER, device: str = "iphone") -> None:
        """Somebody presses Acknowledge."""
        self.receipts[receipt] |= {
            "acknowledged": 1, "acknowledged_at": RESET, "acknowledged_by": user, "acknowledged_by_device": device,
        }  # fmt: skip

    @property
    def newest(self) -> str:
        """The receipt of the last emergency."""
        return list(self.receipts)[-1]

    def _validate(self, user: str) -> Response:
        if user not in (USER, OTHER_USER, GROUP):
            return refusal(400, "user key is invalid", user="invalid")
        is_group = user == GROUP
        devices = [] if is_group else ["iphone"]
        return _ok({"group": int(is_group), "devices": devices, "licenses": [] if is_group else ["iOS"]})

    def _send(self, fields: dict[str, Any]) -> Response:
        if self.used >= self.limit:
            return refusal(429, "application is over its message limit", headers=self._headers())
        if fields.get("user") not in (USER, OTHER_USER, GROUP):
            return refusal(400, "user identifier is not a valid user, group, or subscribed user key", user="invalid")
        limits = {"message": 1024, "title": 250, "url": 512, "url_title": 100}
        if wrong := [name for name, most in limits.items() if len(fields.get(name, "")) > most]:
            return refusal(400, f"{wrong[0]} is too long", **{wrong[0]: "too long"})
        if not fields.get("message"):
            return refusal(400, "message cannot be blank", message="cannot be blank")
        answer: dict[str, Any] = {}
        if fields["priority"] == 2:
            if not (fields.get("retry", 0) >= 30 and 0 < fields.get("expire", 0) <= 10_800):
                return refusal(400, "retry and expire must be supplied", retry="invalid")
            receipt = f"r{len(self.receipts):029d}"
            self.receipts[receipt] = {
                "acknowledged": 0, "acknowledged_at": 0, "acknowledged_by": "", "acknowledged_by_device": "",
                "last_delivered_at": 0, "expired": 0, "expires_at": RESET, "called_back": 0, "called_back_at": 0,
                "tags": [tag for tag in fields.get("tags", "").split(",") if tag], "canceled": False,
            }  # fmt: skip
            answer["receipt"] = receipt
        self.messages.append(fields)
        self.used += 1
        return _ok(answer, self._headers())

    def _receipt(self, receipt: str) -> Response:
        self.asked.append(receipt)
        if self.receipt_answers:
            return self.receipt_answers.pop(0)
        if self.now is not None:
            last, at = self._asked_at.get(receipt), self.now()
            self._asked_at[receipt] = at
            assert last is None or (at - last).total_seconds() >= 5, "asked for too often"
        if receipt not in self.receipts:
            return refusal(404, "receipt not found; may be invalid or expired", receipt="not found")
        return _ok({name: value for name, value in self.receipts[receipt].items() if name not in ("tags", "canceled")})

    def _end(self, name: str, found: list[dict[str, Any]]) -> Response:
        self.ended.append(name)
        for one in found:
            one["canceled"] = True
        return _ok({"canceled": len(found)})

    def _headers(self) -> dict[str, str]:
        numbers = {"Limit": self.limit, "Remaining": max(0, self.limit - self.used), "Reset": RESET}
        return {f"X-Limit-App-{name}": str(number) for name, number in numbers.items()}


def refusal(status: int, error: str, headers: dict[str, str] | None = None, **names: str) -> Response:
    """An error as Pushover words it."""
    body = {**names, "errors": [error], "status": 0, "request": "5042853c-402d-4a18-abcb-168734a801de"}
    return Response(status, json.dumps(body).encode(), headers or {})


def _ok(found: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    body = {"status": 1, "request": "647d2300-702c-4b38-8b2f-d56326ae460b", **found}
    return Response(200, json.dumps(body).encode(), headers or {})


@contextmanager
def pushover_double() -> Iterator[PushoverDouble]:
    """A running server."""
    with http_double() as http:
        double = PushoverDouble(http)
        http.answering = double.answer
        yield double


@contextmanager
def pushover_server() -> Iterator[ProviderServer]:
    with pushover_double() as double:

        def answer(how: str) -> None:
            answers = {
                "temporary": Response(503),
                "permanent": refusal(400, "message cannot be blank", message="cannot be blank"),
                "unknown": Response(hangs_up=True),
            }
            double.answers.append(answers[how])

        def keys() -> list[str]:
            sent = [request for request in double.http.requests if request.path == "/1/messages.json"]
            return [request.headers["idempotency-key"] for request in sent]

        answers = {
            "credentials": refusal(400, "application token is invalid", token="invalid"),
            "unpaid": Response(402),
            "sender": refusal(400, "application is disabled", application="disabled"),
            "policy": Response(451),
            "quota": refusal(429, "application is over its message limit"),
            NO_SUCH_ADDRESS: refusal(400, "user identifier is not a valid user", user="invalid"),
        }
        yield ProviderServer(
            ProviderAccount("Pushover", {"api_base": double.http.url}, {"app_token": TOKEN}), USER, "pushover",
            answer, keys, lambda: len(double.messages), double.answers.append,
            refuse=refusals(double.answers.append, answers),
        )  # fmt: skip


#: A callback is not signed: its URL has what only the account's owner can compute.
SIGNING = Signing(
    ProviderAccount("Vendor", {"api_base": "http://127.0.0.1:9"}, {"app_token": TOKEN}, is_trusted=True),
    lambda _callback: {},
    (callback_token(TOKEN),),
    ({"receipt": "r" * 30, "acknowledged": 1, "acknowledged_by": USER, "acknowledged_by_device": "iphone"},),
    is_form=True,
)
