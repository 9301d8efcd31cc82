"""`tocsin import`: an account on loopback becomes YAML that an empty installation applies completely."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import alertops, grafana_oncall, opsgenie, pagerduty
from tests.doubles.http import Response
from tocsin.cli.main import run
from tocsin.core.config import environment as config
from tocsin.importers import api_reader
from tocsin.importers.import_runs import PRODUCTS
from tocsin.inbound.models import Integration
from tocsin.people.models import User


@dataclass(frozen=True)
class Account:
    """A product's double, with the key that it knows and where the API begins below its address."""

    running: Callable[[], AbstractContextManager[Any]]
    key: str
    path: str = ""


ACCOUNTS = {
    "opsgenie": Account(opsgenie.opsgenie_double, opsgenie.KEY),
    "pagerduty": Account(pagerduty.pagerduty_double, pagerduty.KEY),
    "grafana-oncall": Account(grafana_oncall.oncall_double, grafana_oncall.KEY),
    "alertops": Account(alertops.alertops_double, alertops.KEY),
}


@pytest.fixture(autouse=True)
def environment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands find the test's database as a user's would; the doubles are at a private address."""
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database)
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TOCSIN_ALLOW_TARGETS", "127.0.0.0/8")
    for product in PRODUCTS.values():
        monkeypatch.delenv(product.key_variable, raising=False)
    config.read_again()
    yield
    config.read_again()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the reader would have waited; nobody does."""
    delays: list[float] = []
    original = api_reader.ApiReader.__init__

    def patient(self: api_reader.ApiReader, *args: Any, **named: Any) -> None:
        original(self, *args, **{**named, "sleep": delays.append})

    monkeypatch.setattr(api_reader.ApiReader, "__init__", patient)
    return delays


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_there_is_an_account_for_every_product() -> None:
    assert ACCOUNTS.keys() == PRODUCTS.keys()


@pytest.mark.parametrize("name", ACCOUNTS)
def test_account_import_creates_yaml_that_applies_completely_once(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    account, file, report = ACCOUNTS[name], tmp_path / "moved.yaml", tmp_path / "report.txt"
    monkeypatch.setenv(PRODUCTS[name].key_variable, account.key)
    with account.running() as double:
        status, out, err = answer(
            capsys,
            "import",
            name,
            "--api-base",
            f"{double.url}{account.path}",
            "-o",
            str(file),
            "--report",
            str(report),
        )
    assert (status, out) == (0, ""), err
    assert account.key not in file.read_text() + report.read_text() + err
    assert file.stat().st_mode & 0o777 == report.stat().st_mode & 0o777 == 0o600
    assert f"Next: tocsin apply {file} --dry-run" in err
    status, out, err = answer(capsys, "apply", str(file), "--dry-run")
    assert status == 0, err
    assert "create" in out
    assert not User.objects.exists(), "a dry run"
    status, out, err = answer(capsys, "apply", str(file))
    assert status == 0, err
    status, out, err = answer(capsys, "apply", str(file), "--dry-run")
    assert (status, err) == (0, "")
    assert "create" not in out
    assert "update" not in out, out
    assert all(integration.policy_id for integration in Integration.objects.exclude(settings__has_key="anyway"))


def test_api_key_comes_from_file_or_standard_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = answer(capsys, "import", "opsgenie")
    assert (status, out) == (1, "")
    assert "Set $OPSGENIE_API_KEY" in err
    assert "Settings → API key management" in err
    (tmp_path / "key").write_text(f"{opsgenie.KEY}\n")
    with opsgenie.opsgenie_double() as double:
        status, out, err = answer(
            capsys, "import", "opsgenie", "--api-base", double.url, "--key-file", str(tmp_path / "key")
        )
    assert status == 0, err
    assert out.startswith("users:")


@pytest.mark.parametrize(
    ("key", "base", "message"),
    [
        ("wrong", "", "Opsgenie does not know this key. Create one under Settings"),
        ("two words", "", "This is not an API key"),
        (opsgenie.KEY, "ftp://x", "is not a valid URL"),
        (opsgenie.KEY, "http://127.0.0.1:1", "does not answer"),
        (opsgenie.KEY, "/elsewhere", "Opsgenie has nothing at /elsewhere/v2/users. Is http"),
    ],
)
def test_import_error_is_one_line_with_remedy_without_key(
    key: str,
    base: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
) -> None:
    monkeypatch.setenv("OPSGENIE_API_KEY", key)
    with opsgenie.opsgenie_double() as double:
        address = base if "://" in base else f"{double.url}{base}"
        status, out, err = answer(capsys, "import", "opsgenie", "--api-base", address)
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("tocsin: ")
    assert message in last
    assert key not in err


def test_a_private_address_is_not_called_unless_it_is_allowed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_ALLOW_TARGETS", "")
    monkeypatch.setenv("OPSGENIE_API_KEY", opsgenie.KEY)
    with opsgenie.opsgenie_double() as double:
        status, _, err = answer(capsys, "import", "opsgenie", "--api-base", double.url)
        assert not double.http.requests
    assert status == 1
    assert "TOCSIN_ALLOW_TARGETS" in err


def test_rate_limited_account_is_awaited_and_missing_permissions_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    monkeypatch.setenv("OPSGENIE_API_KEY", opsgenie.KEY)
    with opsgenie.opsgenie_double() as double:
        double.refusals = [
            Response(429, b'{"message": "slow down"}', {"Retry-After": "7"}),
            Response(503),
            Response(502),
        ]
        double.forbidden = {"/v2/integrations"}
        status, out, err = answer(capsys, "import", "opsgenie", "--api-base", double.url)
    assert status == 0, err
    assert waits == [7, 4, 8]
    assert "retrying in 7 s" in err
    assert "v2/integrations: not read. Opsgenie does not permit this key to read /v2/integrations." in err
    assert "username: alice" in out


def test_truncated_response_is_distinguished_from_wrong_address(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSGENIE_API_KEY", opsgenie.KEY)
    with opsgenie.opsgenie_double() as double:
        double.refusals = [Response(200, b'{"data": [{"id": "1", "usern')]
        status, out, err = answer(capsys, "import", "opsgenie", "--api-base", double.url)
        assert (status, out) == (1, "")
        assert "Opsgenie's response at v2/users ended too soon. Try again" in err
        double.refusals = [Response(200, b"<html>")]
        _, _, err = answer(capsys, "import", "opsgenie", "--api-base", double.url)
    assert "did not answer with JSON at v2/users. Is http" in err


def test_next_page_link_to_another_host_is_not_followed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSGENIE_API_KEY", opsgenie.KEY)
    body = b'{"data": [{"id": "1", "username": "a@example.org"}], "paging": {"next": "http://127.0.0.2:9/v2/users"}}'
    with opsgenie.opsgenie_double() as double:
        double.refusals = [Response(200, body)]
        status, _, err = answer(capsys, "import", "opsgenie", "--api-base", double.url)
    assert status == 1
    assert "on another host" in err
