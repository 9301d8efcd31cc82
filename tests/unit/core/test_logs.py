"""Logs never contain secrets of URLs and headers."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tocsin.core.config.environment import LogFormat
from tocsin.core.runtime import telemetry
from tocsin.core.runtime.telemetry import SECRET_PATHS, CountingHandler, formatter_for, mask_tokens

ROOT = Path(__file__).parents[3]
MESSAGE_ID = UUID("0198d2c0-0000-7000-8000-000000000001")


def test_records_go_to_the_stderr_of_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaces stderr for a while, as tests do, may have closed it since."""
    before, after = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", before)
    handler = CountingHandler()
    before.close()
    monkeypatch.setattr(sys, "stderr", after)
    handler.emit(logging.makeLogRecord({"msg": "It is ready.", "levelno": logging.INFO}))
    assert after.getvalue() == "It is ready.\n"


def json_record(text: str, **extra: object) -> dict[str, Any]:
    handler = CountingHandler(io.StringIO())
    handler.setFormatter(formatter_for(LogFormat.JSON))
    fields = {"msg": text, "levelno": 20, "levelname": "INFO", "name": "tocsin", **extra}
    handler.handle(logging.makeLogRecord(fields))
    record: dict[str, Any] = json.loads(handler.stream.getvalue())  # type: ignore[attr-defined]
    return record


@pytest.mark.parametrize(
    "text",
    [
        "POST /in/SECRETsecret1 404",
        "GET /a/SECRETsecret1?x=1",
        "GET /setup/SECRETsecret1",
        "Unprocessable Content: /welcome/SECRETsecret1:1xW2Cs:0-9Ip7CP",
        "Forbidden: /account/password/reset/key/1-diksyj-SECRETsecret1/",
        "Authorization: Bearer SECRETsecret1",
        "authorization: GenieKey SECRETsecret1",
        "postgresql://tocsin:SECRETsecret1@db.example/tocsin",
        "smtp://user:SECRETsecret1@mail.example:587",
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text: str) -> None:
    assert "SECRETsecret1" not in mask_tokens(text)
    assert mask_tokens(text).count("***") == 1


def test_proxy_examples_log_no_secret_path() -> None:
    install = (ROOT / "docs/get-started/install.md").read_text()
    nginx = re.search(r"location ~ (\^\S+) \{[^}]*access_log off;", install)
    caddy = re.search(r"@secret path (.*)", install)
    assert nginx is not None
    assert caddy is not None
    assert caddy[1].split() == [f"{path}*" for path in SECRET_PATHS]
    tokens = re.findall(r'path\("(\w+/)<str:token>', (ROOT / "src/tocsin/web/urls.py").read_text())
    assert len(tokens) == 6
    assert {f"/{path}" for path in tokens} < {*SECRET_PATHS}
    assert all(re.match(nginx[1], f"{path}x") for path in SECRET_PATHS)
    assert 'enable-access-log: "false"' in (ROOT / "docs/get-started/install/kubernetes.md").read_text()


def test_test_token_is_masked_with_its_url_token() -> None:
    assert mask_tokens("POST /in/SECRETsecret1/test/SECRETsecret2 404") == "POST /in/*** 404"


def test_json_records_have_ids_and_the_trace() -> None:
    record = json_record("sent", alert_id=7, delivery_id=MESSAGE_ID)
    assert (record["alert_id"], record["delivery_id"]) == (7, str(MESSAGE_ID))
    assert record["trace_id"] == f"{telemetry.trace_of_alert(7).trace_id:032x}"
    assert json_record("read", message_id=MESSAGE_ID)["trace_id"] == MESSAGE_ID.hex
    assert json_record("none", alert_id=None).keys() == {"at", "level", "logger", "message"}
