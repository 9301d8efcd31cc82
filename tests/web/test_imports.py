"""Import by page and API: preview, plan and report, then apply."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.doubles import opsgenie
from tests.support.outbox_harness import configured
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.configure.models import ImportRun, ImportState
from tocsin.core.config.environment import DEMO_FILE
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, reason_from_json
from tocsin.core.runtime import clock
from tocsin.importers import import_runs
from tocsin.people.models import User


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[opsgenie.OpsgenieDouble]:
    configured(monkeypatch, allow_targets=(ip_network("127.0.0.0/8"),))
    with opsgenie.opsgenie_double() as double:
        yield double


def done() -> ImportRun:
    """The run, once its thread has ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("import-"):
            thread.join(30)
            assert not thread.is_alive()
    return ImportRun.objects.get()


def text_of(client: Client, path: str = "/import/") -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.content.decode()


def test_sample_accounts_of_the_demo_are_ready_to_apply(
    company: Company, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    admin = browser_of(company.admin)
    assert "Try it with a sample" not in text_of(admin)
    refused = admin.post("/import/", {"sample": "opsgenie"}, follow=True).content.decode()
    assert "Only the demo has sample accounts" in refused
    (tmp_path / DEMO_FILE).touch()
    configured(monkeypatch, data_dir=tmp_path)
    assert import_runs.sample_products() == ["opsgenie", "pagerduty", "alertops"]
    for product in import_runs.sample_products():
        assert admin.post("/import/", {"sample": product}).status_code == 302
        run = done()
        assert (run.product, run.state) == (product, ImportState.READY), run.problem
        assert run.plan
        assert not run.refusals
    assert browser_of(company.manager).post("/import/", {"sample": "opsgenie"}).status_code == 403


def test_account_is_imported_previewed_applied_without_keeping_its_key(
    account: opsgenie.OpsgenieDouble, company: Company, browser_of: Callable[[User], Client]
) -> None:
    admin = browser_of(company.admin)
    response = admin.post("/import/", {"product": "opsgenie", "key": opsgenie.KEY, "api_base": account.url})
    assert response.status_code == 302, response.content.decode()
    run = done()
    assert run.state == ImportState.READY, run.problem
    shown = text_of(admin)
    assert "schedule old_schedule" in shown
    assert '<span class="chip">1 maintenance window</span>' in shown
    assert "unchanged user alice" in shown or "update    user alice" in shown, "who is here stays"
    assert "create    user carol" in shown
    assert not User.objects.filter(email="carol@example.org").exists(), "nothing is changed yet"
    yaml = admin.get(f"/import/{run.pk}/tocsin-import.yaml")
    assert yaml.headers["Content-Disposition"] == 'attachment; filename="tocsin-import.yaml"'
    assert yaml.content.startswith(b"users:")
    assert b"left out" in admin.get(f"/import/{run.pk}/report.txt").content
    with database.transaction() as connection:
        row = str(connection.execute("SELECT t::text FROM configure_importrun t").fetchone())
    assert opsgenie.KEY not in row
    assert "+4179" not in row, "numbers of people are encrypted"
    admin.post(f"/import/{run.pk}/apply")
    run = done()
    assert (run.state, run.problem, run.configuration) == (ImportState.APPLIED, NO_REASON, "")
    assert User.objects.filter(email="carol@example.org").exists()
    assert AuditEntry.objects.filter(action="begin_import", actor_id=company.admin.pk).exists()
    assert "Import applied." in text_of(admin)
    assert admin.get(f"/import/{run.pk}/tocsin-import.yaml").status_code == 404
    admin.post(f"/import/{run.pk}/apply")
    assert ImportRun.objects.get().state == ImportState.APPLIED, "once"
    admin.post(f"/import/{run.pk}/discard")
    assert not ImportRun.objects.exists()


def test_import_is_linked_from_related_pages(company: Company, browser_of: Callable[[User], Client]) -> None:
    admin, manager = browser_of(company.admin), browser_of(company.manager)
    for path in ("/", "/users/", "/settings/", "/integrations/", "/integrations/add/", "/system/"):
        assert 'href="/import/"' in text_of(admin, path), path
    assert 'href="/import/"' not in text_of(manager, "/integrations/")


def test_unreadable_account_is_reported_at_field_or_run(
    account: opsgenie.OpsgenieDouble, company: Company, browser_of: Callable[[User], Client]
) -> None:
    admin = browser_of(company.admin)
    for field, given, text in (
        ("key", {"product": "opsgenie"}, "An API key is required."),
        ("api_base", {"product": "grafana-oncall", "key": "k"}, "has its own address"),
        (
            "api_base",
            {"product": "opsgenie", "key": "k", "api_base": "ftp://x"},
            "is not a valid URL",
        ),
        ("file", {"product": "opsgenie", "file": SimpleUploadedFile("x.json", b"[]")}, "This export cannot be read"),
        ("file", {"product": "pagerduty", "file": SimpleUploadedFile("x.json", b"{}")}, "no export that can be read"),
    ):
        answer = admin.post("/import/", given)
        assert answer.status_code == 422
        assert any(text in error for error in answer.context["form"].errors[field]), (field, text)
    assert not ImportRun.objects.exists()
    admin.post("/import/", {"product": "opsgenie", "key": "wrong", "api_base": account.url})
    assert done().state == ImportState.FAILED
    assert "Opsgenie does not know this key." in text_of(admin)


def test_import_of_stopped_server_is_reported_and_can_be_restarted(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    admin = browser_of(company.admin)
    at = company.now - import_runs.HEARTBEAT_TIMEOUT * 2
    ImportRun.objects.create(
        product="opsgenie", source="x", started_by="a", started_at=at, beat_at=at, state=ImportState.READING
    )
    assert "The import was interrupted" in text_of(admin)
    export = SimpleUploadedFile("export.json", json.dumps(opsgenie.documents()).encode())
    assert admin.post("/import/", {"product": "opsgenie", "file": export}).status_code == 302
    assert done().state == ImportState.READY


def test_import_is_rejected_while_another_is_running(company: Company) -> None:
    ImportRun.objects.create(
        product="opsgenie", source="x", started_by="a", started_at=company.now, beat_at=company.now,
        state=ImportState.READING,
    )  # fmt: skip
    exported = json.dumps(opsgenie.documents()).encode()
    with pytest.raises(Rejected) as raised:
        import_runs.start("opsgenie", export_content=exported, actor=COMMAND_LINE, now=company.now)
    assert (raised.value.code, raised.value.reason.code) == (
        "busy",
        "Another import is running. Wait for it, or discard it first.",
    )


def test_unexpected_error_of_an_import_is_stored(
    company: Company, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(import_runs, "_read_account", fail)
    exported = SimpleUploadedFile("e.json", json.dumps(opsgenie.documents()).encode())
    browser_of(company.admin).post("/import/", {"product": "opsgenie", "file": exported})
    run = done()
    assert (run.state, run.problem.code) == (
        ImportState.FAILED,
        "An unexpected error occurred; the server's log has the details.",
    )


def test_long_running_import_is_not_reported_as_stopped(
    company: Company, browser_of: Callable[[User], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = browser_of(company.admin)
    exported = SimpleUploadedFile("e.json", json.dumps(opsgenie.documents()).encode())
    admin.post("/import/", {"product": "opsgenie", "file": exported})
    run = done()
    assert run.state == ImportState.READY, run.problem
    whole, received = import_runs.plan.apply, list[bool]()

    def slowly(*given: Any, **named: Any) -> Any:
        """As long as it takes until the run is heard of twice."""
        end = clock.now() + timedelta(seconds=20)
        ImportRun.objects.filter(pk=run.pk).update(beat_at=run.started_at - import_runs.HEARTBEAT_TIMEOUT)
        while not received and clock.now() < end:
            if ImportRun.objects.get().beat_at > run.started_at:
                received.append(True)
        return whole(*given, **named)

    monkeypatch.setattr(import_runs, "HEARTBEAT_INTERVAL", 0.05)
    monkeypatch.setattr(import_runs.plan, "apply", slowly)
    admin.post(f"/import/{run.pk}/apply")
    assert (done().state, received) == (ImportState.APPLIED, [True])


def test_only_an_administrator_may_import(company: Company, browser_of: Callable[[User], Client]) -> None:
    for person in (company.manager, company.responder, company.observer):
        client = browser_of(person)
        assert client.get("/import/").status_code == 403
        assert client.post("/import/", {"product": "opsgenie", "key": "k"}).status_code == 403


def test_invalid_configuration_is_shown_with_reasons_and_not_applicable(
    company: Company, browser_of: Callable[[User], Client]
) -> None:
    admin = browser_of(company.admin)
    whole: dict[str, Any] = opsgenie.documents()
    # Somebody here has Carol's e-mail address as username.
    User.objects.filter(pk=company.observer.pk).update(username="carol@example.org")
    export = SimpleUploadedFile("export.json", json.dumps(whole).encode())
    admin.post("/import/", {"product": "opsgenie", "file": export})
    run = done()
    assert run.state == ImportState.READY
    assert any("carol@example.org" in str(reason_from_json(stored)) for stored in run.refusals)
    shown = text_of(admin)
    assert "It can't be applied as is." in shown
    assert f"/import/{run.pk}/apply" not in shown
    assert f"/import/{run.pk}/tocsin-import.yaml" in shown
