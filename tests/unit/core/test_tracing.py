"""Traces are off without a receiver or without their packages, and each alert has one trace."""

from __future__ import annotations

import logging
import subprocess
import sys
from uuid import UUID

import pytest

from tocsin.core.runtime import telemetry


@pytest.fixture(autouse=True)
def _without_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in telemetry.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(telemetry, "exporter", None)


def test_without_a_receiver_nothing_is_exported() -> None:
    telemetry.set_up_traces("node")
    assert telemetry.exporter is None


def test_missing_packages_are_named_and_stop_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.delitem(sys.modules, "tocsin.core.runtime.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.WARNING):
        telemetry.set_up_traces("node")
    assert telemetry.exporter is None
    assert "tocsin[otel]" in caplog.text


def test_serving_imports_no_opentelemetry_while_traces_are_off() -> None:
    program = (
        "import sys; from tocsin.cli.session import set_up_django; set_up_django(); import tocsin.node; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_alert_and_message_has_its_own_trace() -> None:
    alerts = [telemetry.trace_of_alert(number) for number in range(1, 100)]
    assert len({one.trace_id for one in alerts} | {one.root_id for one in alerts}) == 198
    assert telemetry.trace_of_alert(7) == telemetry.trace_of_alert(7)
    message_id = UUID("0198d2c0-0000-7000-8000-000000000001")
    assert f"{telemetry.trace_of_message(message_id).trace_id:032x}" == message_id.hex
