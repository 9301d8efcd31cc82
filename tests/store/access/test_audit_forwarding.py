"""The audit log is forwarded in order and at least once: by syslog over TLS, TCP and UDP, and to a signed webhook."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import socket
import subprocess
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.doubles.certificates import make_certificate
from tests.doubles.http import HttpDouble, Response
from tests.doubles.syslog import syslog_receiver
from tests.support.outbox_harness import allow_loopback
from tests.support.people import ACTOR
from tocsin.access import audit, audit_log
from tocsin.access.audit_log import format_message
from tocsin.access.models import AuditForwarding
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.net import egress
from tocsin.core.runtime import clock
from tocsin.operate.checks import machine

pytestmark = pytest.mark.usefixtures("database")

RSYSLOG = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")


@pytest.fixture(autouse=True)
def loopback(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)


def record(number: int, action: str = "update") -> None:
    for index in range(number):
        audit.record(
            ACTOR,
            action,
            now=clock.now(),
            object_type="group",
            object_id=index,
            object_name="Größe\n1",
            after={"a": "ä"},
        )
    while audit_log.link_new():
        pass


def forward_to(target: str) -> None:
    settings_store.set(settings_store.AUDIT_FORWARDING, target)


def forward_all() -> None:
    while audit_log.run_once():
        pass


def retry_now() -> None:
    """Ends the delay after a failure."""
    AuditForwarding.objects.update(not_before=clock.now() - timedelta(hours=1))


def test_nothing_is_sent_without_a_target(now: datetime) -> None:
    record(1)
    assert not audit_log.run_once()
    assert not AuditForwarding.objects.exists()


@pytest.mark.parametrize("transport", ["tcp", "udp", "tls"])
def test_entries_arrive_by_syslog_in_order(transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path)
    monkeypatch.setattr(egress, "tls_context", certificate.client)
    context = certificate.server if transport == "tls" else None
    with syslog_receiver(udp=transport == "udp", context=context) as receiver:
        forward_to(f"syslog+{transport}://127.0.0.1:{receiver.port}")
        record(3)
        record(1, "sign_in_failed")
        forward_all()
        wait_for(receiver.messages, 4)
        record(2)
        forward_all()
        wait_for(receiver.messages, 6)
    assert receiver.sequences == [1, 2, 3, 4, 5, 6]
    assert [message["priority"] for message in receiver.messages[2:4]] == [109, 108]
    assert receiver.messages[0]["after"] == {"a": "ä"}
    assert len(receiver.messages[0]["hash"]) == 64


def wait_for(messages: list[dict[str, object]], number: int) -> None:
    """Waits for the receiver's thread, which takes datagrams after they were sent."""
    end = time.monotonic() + 10
    while len(messages) < number and time.monotonic() < end:
        time.sleep(0.01)
    assert len(messages) == number


def test_a_broken_connection_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with syslog_receiver() as receiver:
        forward_to(f"syslog+tcp://127.0.0.1:{receiver.port}")
        record(3)
        receiver.resets = 1
        forward_all()
        state = AuditForwarding.objects.get()
        assert (state.cursor, state.problem.code) == (0, "{host} closed the connection: {error}.")
        forward_all()
        assert receiver.messages == [], "it waits"
        retry_now()
        forward_all()
    assert receiver.sequences == [1, 2, 3]
    assert AuditForwarding.objects.get().failed_since is None


def test_an_untrusted_certificate_gets_nothing(tmp_path: Path) -> None:
    with syslog_receiver(context=make_certificate(tmp_path).server) as receiver:
        forward_to(f"syslog+tls://127.0.0.1:{receiver.port}")
        record(1)
        forward_all()
    assert receiver.messages == []
    assert AuditForwarding.objects.get().failed_since is not None


def test_a_webhook_is_signed_and_repeated_with_one_id() -> None:
    server = HttpDouble(lambda request: Response(500))
    server.start()
    try:
        forward_to(f"{server.url}/audit")
        record(2)
        forward_all()
        assert AuditForwarding.objects.get().problem.code == "{host} answered with the status {status}."
        server.answering = lambda request: Response(204)
        retry_now()
        forward_all()
    finally:
        server.stop()
    first, second = server.requests
    assert first.body == second.body
    assert [entry["sequence"] for entry in second.json()["entries"]] == [1, 2]
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "audit-1-2"
    with database.transaction() as connection:
        state = audit_log.load_state(connection)
    key = base64.b64decode(state.signing_secret.removeprefix(audit_log.SECRET_PREFIX))
    signed = f"audit-1-2.{second.headers['webhook-timestamp']}.".encode() + second.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert second.headers["webhook-signature"] == f"v1,{expected}"
    assert (state.cursor, state.waiting) == (2, 0)
    assert state.signing_secret not in str(AuditForwarding.objects.values())


def test_a_private_receiver_needs_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    with syslog_receiver() as receiver:
        forward_to(f"syslog+tcp://10.255.255.1:{receiver.port}")
        record(1)
        forward_all()
    assert AuditForwarding.objects.get().problem.code != ""


def test_only_one_worker_sends_at_a_time() -> None:
    with syslog_receiver() as receiver:
        forward_to(f"syslog+tcp://127.0.0.1:{receiver.port}")
        record(1)
        with database.transaction() as connection:
            audit_log.load_state(connection)
        AuditForwarding.objects.update(not_before=clock.now() + audit_log.LEASE)
        forward_all()
        assert receiver.messages == []
        retry_now()
        forward_all()
    assert receiver.sequences == [1]


def test_doctor_says_when_forwarding_fails_for_long(now: datetime) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        forward_to(f"syslog+tcp://127.0.0.1:{closed.getsockname()[1]}")
        record(1)
        forward_all()
    later = clock.now() + timedelta(minutes=11)
    with database.transaction() as connection:
        assert list(machine.check_forwarding(connection, clock.now())) == []
        [finding] = machine.check_forwarding(connection, later)
    assert finding.id == "audit.not_forwarded"


@pytest.mark.parametrize(
    "target", ["siem.example.org", "http://siem.example.org/", "syslog+tls://u:p@siem.example.org"]
)
def test_a_bad_target_is_refused_by_name(now: datetime, target: str) -> None:
    with pytest.raises(Rejected) as raised:
        audit.change_settings({"audit_forwarding": target}, actor=ACTOR, now=now)
    assert raised.value.field == "audit_forwarding"


def test_a_message_is_ascii_whatever_it_names(now: datetime) -> None:
    fields = {"action": "sign in\n<1>", "at": now.isoformat(), "sequence": 2**31, "object_name": "ä\r\n\0"}
    message = format_message(fields, "node")
    assert b"\n" not in message
    assert b' tocsin - signin<1> [meta sequenceId="1"] {' in message
    assert json.loads(message[message.index(b"{") :]) == fields


@pytest.mark.skipif(RSYSLOG is None and not os.environ.get("CI"), reason="rsyslog is not installed")
def test_a_real_rsyslog_takes_every_entry(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, config = tmp_path / "audit.log", tmp_path / "rsyslog.conf"
    config.write_text(
        f'global(workDirectory="{tmp_path}" maxMessageSize="64k")\n'
        'module(load="imtcp")\n'
        f'input(type="imtcp" port="{port}" address="127.0.0.1")\n'
        'template(name="t" type="string" string="%pri-text%|%app-name%|%msgid%|%msg%\\n")\n'
        f'action(type="omfile" file="{log}" template="t" asyncWriting="off" flushOnTXEnd="on")\n'
    )
    assert RSYSLOG is not None
    server = subprocess.Popen([RSYSLOG, "-n", "-f", str(config), "-i", str(tmp_path / "pid")])
    try:
        forward_to(f"syslog+tcp://127.0.0.1:{port}")
        record(250)
        end = time.monotonic() + 20
        while not (log.exists() and log.read_text().count("\n") >= 250) and time.monotonic() < end:
            if AuditForwarding.objects.exists() and AuditForwarding.objects.get().failed_since:
                retry_now()
            forward_all()
            time.sleep(0.1)
    finally:
        server.terminate()
        server.wait(10)
    lines = log.read_text().splitlines()
    assert all("|tocsin|update|" in line for line in lines)
    assert [json.loads(line.split("|", 3)[3])["sequence"] for line in lines] == list(range(1, 251))
