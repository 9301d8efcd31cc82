"""Official clients and senders, unmodified but for the address, against one node. Those of other projects' environments
run in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.certificates import make_certificate
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, make_integration
from tests.support.integrations import InboundServer, inbound_server, rows, served
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.inbound.admin import secrets

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def desk() -> EscalationHarness:
    return EscalationHarness(NOW)


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


@dataclass(frozen=True, slots=True)
class Address:
    """Where the node listens, with the certificate of its authority if it has one."""

    url: str
    certificate: str = ""


@pytest.fixture
def address(node: InboundServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    with served(node.app, monkeypatch) as url:
        yield Address(url)


@pytest.fixture
def secure_address(node: InboundServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Address]:
    certificate = make_certificate(tmp_path)
    with served(node.app, monkeypatch, (str(certificate.file), str(tmp_path / "key.pem")), "localhost") as url:
        yield Address(url, str(certificate.file))


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder of the packages that conflict with Tocsin's own."""
    command = [sys.executable, ROOT / "scripts" / "clients.py"]
    return Path(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def token_of(desk: EscalationHarness, kind: str) -> str:
    integration = make_integration("Sender", kind, policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return secrets.token_of(integration)


def run(program: list[str], code: str, values: dict[str, Any], **environ: str) -> str:
    """Runs a client's code with `values` as JSON in its last argument. Returns what it prints."""
    command = [*program, code, json.dumps(values)]
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TOCSIN_", "DJANGO_"))}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**own, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-1500:]
    return done.stdout.strip()


def statuses() -> list[str]:
    return [row.status for row in rows()]


_PDPYRAS = """
import json, sys
import pdpyras
values = json.loads(sys.argv[1])
session = pdpyras.EventsAPISession(values["token"])
session.url = values["url"]
key = session.trigger("Disk full on db1", "db1", severity="critical", custom_details={"free": "1%"})
session.acknowledge(key)
session.resolve(key)
print(key)
"""


def test_pdpyras_opens_acknowledges_and_closes(desk: EscalationHarness, address: Address, clients: Path) -> None:
    values = {"token": token_of(desk, "pagerduty"), "url": address.url}
    key = run([sys.executable, "-c"], _PDPYRAS, values, PYTHONPATH=str(clients))
    assert statuses() == ["Mapped Opened", "Mapped Updated", "Mapped Closed"]
    alert = Alert.objects.get()
    assert (alert.subject, alert.source_id, alert.priority, alert.status) == (
        "Disk full on db1", key, "critical", "closed",
    )  # fmt: skip


_PDJS = """
const {event} = require("@pagerduty/pdjs");
const values = JSON.parse(process.argv.at(-1));
const send = (event_action, more) => event({
  server: values.server, data: {routing_key: values.token, event_action, dedup_key: "disk-db1", ...more},
});
(async () => {
  const opened = await send("trigger", {payload: {summary: "Disk full on db1", source: "db1", severity: "error"}});
  const closed = await send("resolve");
  console.log(opened.response.status, closed.response.status);
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js on the PATH")
def test_pdjs_opens_and_closes(desk: EscalationHarness, secure_address: Address) -> None:
    values = {"token": token_of(desk, "pagerduty"), "server": secure_address.url.removeprefix("https://")}
    printed = run(["node", "-e"], _PDJS, values, NODE_EXTRA_CA_CERTS=secure_address.certificate)
    assert printed == "202 202"
    assert statuses() == ["Mapped Opened", "Mapped Closed"]


_APPRISE = """
import json, sys
import apprise
from apprise.plugins import opsgenie, pagerduty
values = json.loads(sys.argv[1])
for lookup, path in ((pagerduty.PAGERDUTY_API_LOOKUP, "/v2/enqueue"), (opsgenie.OPSGENIE_API_LOOKUP, "/v2/alerts")):
    for region in lookup:
        lookup[region] = values["url"] + path
for target, kind, title in values["messages"]:
    sender = apprise.Apprise()
    assert sender.add(target), target
    assert sender.notify(body="Backup of db1", title=title, notify_type=kind), target
"""


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("pagerduty", "pagerduty://{token}@apikey/backup"),
        ("opsgenie", "opsgenie://{token}"),
        ("api", "json://{host}/in/{token}"),
        ("api", "form://{host}/in/{token}"),
        ("api", "xml://{host}/in/{token}"),
    ],
)
def test_apprise_opens(desk: EscalationHarness, address: Address, kind: str, target: str) -> None:
    host = address.url.removeprefix("http://")
    url = target.format(token=token_of(desk, kind), host=host)
    run([sys.executable, "-c"], _APPRISE, {"url": address.url, "messages": [[url, "failure", "Backup failed"]]})
    assert statuses() == ["Mapped Opened"]
    assert "Backup" in Alert.objects.get().subject


@pytest.mark.parametrize("schema", ["json", "form", "xml"])
def test_success_by_apprise_closes_its_failure(desk: EscalationHarness, address: Address, schema: str) -> None:
    url = f"{schema}://{address.url.removeprefix('http://')}/in/{token_of(desk, 'api')}"
    messages = [[url, "failure", "Backup of db1"], [url, "success", "Backup of db1"]]
    run([sys.executable, "-c"], _APPRISE, {"url": address.url, "messages": messages})
    assert statuses() == ["Mapped Opened", "Mapped Closed"]


_ELASTALERT = """
import importlib, json, sys
from elastalert.ruletypes import AnyRule
values = json.loads(sys.argv[1])
module, name = values["alerter"].rsplit(".", 1)
rule = {"name": "Failed logins", "index": "auth-*", "alert": [], "alert_subject": "Failed logins",
        "timestamp_field": "@timestamp", **values["rule"]}
rule["type"] = AnyRule(rule)
alerter = getattr(importlib.import_module("elastalert.alerters." + module), name)(rule)
if values.get("url"):
    alerter.url = values["url"]
alerter.alert(values["matches"])
"""

MATCH = {
    "@timestamp": "2026-11-24T02:10:30Z", "_id": "AVbl4X0B", "_index": "auth", "message": "Failed password for root",
    "host": {"name": "web1"}, "user": {"name": "root"}, "num_hits": 12, "num_matches": 1,
}  # fmt: skip


def alert_by_elastalert(clients: Path, alerter: str, rule: dict[str, Any], url: str = "") -> None:
    values = {"alerter": alerter, "rule": rule, "url": url, "matches": [MATCH]}
    run([sys.executable, "-c"], _ELASTALERT, values, PYTHONPATH=str(clients))


def test_post2_of_elastalert_opens_and_closes(desk: EscalationHarness, address: Address, clients: Path) -> None:
    url = f"{address.url}/in/{token_of(desk, 'elastalert')}"
    payload = {"rule_name": "Failed logins", "severity": "high", "query_key_value": "{{ user.name }}"}
    rule = {"http_post2_url": url, "http_post2_all_values": True, "http_post2_payload": payload}
    alert_by_elastalert(clients, "httppost2.HTTPPost2Alerter", rule)
    alert = Alert.objects.get()
    assert (alert.subject, alert.source_id, alert.priority) == ("Failed logins: root", "Failed logins root", "high")
    over = {**rule, "http_post2_payload": {**payload, "alert_status": "resolved"}}
    alert_by_elastalert(clients, "httppost2.HTTPPost2Alerter", over)
    assert statuses() == ["Mapped Opened", "Mapped Closed"]


def test_post_of_elastalert_opens_by_the_match_alone(desk: EscalationHarness, address: Address, clients: Path) -> None:
    url = f"{address.url}/in/{token_of(desk, 'elastalert')}"
    alert_by_elastalert(clients, "httppost.HTTPPostAlerter", {"http_post_url": url})
    assert Alert.objects.get().subject == "Failed password for root"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_pagerduty_alerter_of_elastalert_opens(
    desk: EscalationHarness, address: Address, clients: Path, version: str
) -> None:
    rule = {"pagerduty_service_key": token_of(desk, "pagerduty"), "pagerduty_client_name": "ElastAlert",
            "pagerduty_api_version": version, "pagerduty_incident_key": "logins"}  # fmt: skip
    path = "/v2/enqueue" if version == "v2" else "/generic/2010-04-15/create_event.json"
    alert_by_elastalert(clients, "pagerduty.PagerDutyAlerter", rule, address.url + path)
    assert Alert.objects.get().source_id == "logins"


def test_opsgenie_alerter_of_elastalert_opens(desk: EscalationHarness, address: Address, clients: Path) -> None:
    rule = {"opsgenie_key": token_of(desk, "opsgenie"), "opsgenie_addr": f"{address.url}/v2/alerts",
            "opsgenie_alias": "logins", "opsgenie_priority": "P2"}  # fmt: skip
    alert_by_elastalert(clients, "opsgenie.OpsGenieAlerter", rule)
    alert = Alert.objects.get()
    assert (alert.source_id, alert.priority) == ("logins", "high")


def test_alertmanager_alerter_of_elastalert_opens(desk: EscalationHarness, address: Address, clients: Path) -> None:
    rule = {"alertmanager_hosts": [address.url], "alertmanager_basic_auth_login": "elastalert",
            "alertmanager_basic_auth_password": token_of(desk, "prometheus")}  # fmt: skip
    alert_by_elastalert(clients, "alertmanager.AlertmanagerAlerter", rule)
    assert statuses() == ["Mapped Opened"]
