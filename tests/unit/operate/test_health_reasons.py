"""What a health check says of the address, the database server, the disks and the heartbeat in each state."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.doubles.certificates import make_certificate
from tests.doubles.http import Response, http_double
from tests.support.outbox_harness import allow_loopback, configured
from tocsin.operate import readiness, self_check
from tocsin.operate.checks import database, machine
from tocsin.operate.finding import HealthFinding

ENOUGH = {"major": database.MIN_POSTGRES_VERSION, "encoding": "UTF8", "may_create": True}


def codes(findings: Iterable[HealthFinding]) -> list[str]:
    return [reason.code for finding in findings for reason in (finding.detail, finding.remedy) if reason]


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ({}, []),
        ({"major": database.MIN_POSTGRES_VERSION - 1}, ["database.version"]),
        ({"encoding": "LATIN1"}, ["database.encoding"]),
        ({"may_create": False}, ["database.rights"]),
    ],
)
def test_unsuitable_database_server_is_reported(server: dict[str, Any], expected: list[str]) -> None:
    found = list(database.check_server(**{**ENOUGH, **server}))
    assert [finding.id for finding in found] == expected
    assert all(finding.remedy for finding in found)


def test_location_of_the_built_in_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, database_url=None, data_dir=tmp_path)
    for is_outside, says in ((False, "built-in PostgreSQL"), (True, "has no access to a parent folder")):
        monkeypatch.setattr(database.EmbeddedPostgres, "is_outside_data_dir", is_outside)
        [finding] = database._report_location()
        assert says in str(finding.detail)
        assert bool(finding.remedy) == is_outside


def test_disk_without_inodes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ample = 10**9
    sizes = SimpleNamespace(f_files=1000, f_favail=19, f_bavail=ample, f_blocks=ample, f_bfree=ample, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda folder: sizes)
    [finding] = readiness.check_disk(tmp_path)
    assert codes([finding]) == [
        "{free} of {size} inodes are free on the disk of {folder}.",
        "Remove directories with many small files.",
    ]
    assert finding.detail.data == {"free": 19, "size": 1000, "folder": str(tmp_path)}


def test_heartbeat_receiver_that_never_answers_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "TIMEOUT", timedelta(seconds=0.05))
    with http_double(lambda request: Response(200, takes=0.5)) as receiver:
        problem = self_check.ping(receiver.url)
    assert (problem.code, problem.data) == ("no answer within {timeout}", {"timeout": {"seconds": 0.05}})


def test_redirect_without_a_target_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    certificate_time = datetime(2026, 11, 24, tzinfo=UTC)
    with http_double(lambda request: Response(302)) as proxy:
        configured(monkeypatch, base_url=proxy.url)
        found = codes(machine.check_address(certificate_time))
    assert "network.redirects_somewhere" in found


def test_https_without_a_trusted_proxy_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    with http_double(lambda request: Response(200, b"ok"), certificate.server) as proxy:
        configured(monkeypatch, base_url=proxy.url.replace("http:", "https:"), trusted_proxies=())
        found = codes(machine.check_address(datetime.now(UTC), certificate.client()))
    assert {
        "TOCSIN_TRUSTED_PROXIES is not set: all requests appear to come from the proxy's address.",
        "Set it to the proxy's address, such as 127.0.0.1,::1.",
    } <= set(found)
