"""The real Alertmanager opens, repeats and closes alerts through each of its three receivers that speak to Tocsin."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.installation import CONFIGURATION, Installation, traces, until

PROGRAM = shutil.which("prometheus-alertmanager")

#: The inbound tokens by kind.
TOKENS = {"alertmanager": "a" * 32, "pagerduty": "b" * 32, "opsgenie": "c" * 32}

DOORS = "".join(
    f"\n  - {{name: By {kind}, kind: {kind}, token: {token},"
    " escalation_policy: Standard, recipients: {groups: [Desk]}}"
    for kind, token in TOKENS.items()
)


def settings(url: str) -> str:
    """Alertmanager's configuration: nothing but addresses and keys is about Tocsin."""
    return f"""
route:
  receiver: nobody
  group_by: [alertname]
  group_wait: 100ms
  group_interval: 1s
  repeat_interval: 2s
  routes:
    - {{receiver: webhook, continue: true}}
    - {{receiver: pagerduty, continue: true}}
    - {{receiver: opsgenie}}
receivers:
  - name: nobody
  - name: webhook
    webhook_configs: [{{url: "{url}/in/{TOKENS["alertmanager"]}", send_resolved: true}}]
  - name: pagerduty
    pagerduty_configs: [{{url: "{url}/v2/enqueue", routing_key: "{TOKENS["pagerduty"]}", severity: error}}]
  - name: opsgenie
    opsgenie_configs: [{{api_url: "{url}/", api_key: "{TOKENS["opsgenie"]}", priority: P1, update_alerts: true}}]
"""


class Alertmanager:
    """One Alertmanager on loopback."""

    def __init__(self, folder: Path, url: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        file = folder / "alertmanager.yml"
        file.write_text(settings(url))
        self.log = folder / "alertmanager.log"
        assert PROGRAM is not None
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [PROGRAM, f"--config.file={file}", f"--storage.path={folder / 'am'}", "--cluster.listen-address=",
                 f"--web.listen-address={self.address}", "--log.level=debug"],
                stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip

    def send_alert(self, is_over: bool = False) -> None:
        """What Prometheus tells it: web1 is down, or was."""
        now = datetime.now(UTC)
        alert: dict[str, Any] = {
            "labels": {"alertname": "HostDown", "instance": "web1", "severity": "critical"},
            "annotations": {"summary": "web1 is down"},
            "startsAt": (now - timedelta(minutes=1)).isoformat(),
            "generatorURL": "http://prometheus.example/graph",
        }
        if is_over:
            alert["endsAt"] = (now - timedelta(seconds=1)).isoformat()
        request = urllib.request.Request(
            f"http://{self.address}/api/v2/alerts",
            json.dumps([alert]).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def is_ready(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@pytest.fixture
def sender(tocsin: Installation, tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager whose three receivers post to a node that runs."""
    tocsin.apply(CONFIGURATION + DOORS)
    tocsin.serve()
    running = Alertmanager(tmp_path, tocsin.url)
    try:
        until("Alertmanager is ready", running.is_ready)
        yield running
    finally:
        running.process.terminate()
        running.process.wait(20)


def statuses(tocsin: Installation) -> dict[str, list[str]]:
    """What became of each receiver's messages, oldest first, by kind."""
    rows = tocsin.rows(
        "SELECT i.kind, m.status FROM inbound_inboundmessage m JOIN inbound_integration i ON i.id = m.integration_id "
        "ORDER BY m.id"
    )
    return {kind: [row["status"] for row in rows if row["kind"] == kind] for kind in TOKENS}


# Where CI has none, the test fails.
@pytest.mark.skipif(PROGRAM is None and not os.environ.get("CI"), reason="prometheus-alertmanager is not installed")
def test_the_real_alertmanager_opens_repeats_and_closes_through_each_receiver(
    tocsin: Installation, sender: Alertmanager
) -> None:
    sender.send_alert()
    until("each opened an alert", lambda: all("Mapped Opened" in results for results in statuses(tocsin).values()))
    until("each said it again", lambda: all(len(results) > 1 for results in statuses(tocsin).values()))
    alerts = tocsin.api("alerts?status=open")["items"]
    assert {alert["integration"] for alert in alerts} == {f"By {kind}" for kind in TOKENS}
    assert {alert["integration"]: alert["priority"] for alert in alerts} == {
        "By alertmanager": "critical",
        "By pagerduty": "high",
        "By opsgenie": "critical",
    }
    sender.send_alert(is_over=True)
    until("each closed its alert", lambda: all("Mapped Closed" in results for results in statuses(tocsin).values()))
    assert tocsin.api("alerts?status=open")["items"] == []
    for kind, results in statuses(tocsin).items():
        assert results.count("Mapped Opened") == 1, kind
        assert not {"Mapping Failed", "Pending"} & set(results), kind
    assert "unexpected status code" not in sender.log.read_text()
    assert not traces(tocsin.logs())
