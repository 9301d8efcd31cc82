"""What a killed process had sent is recorded by the next one, and sent once."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.outbox_harness import OutboxHarness
from tocsin.core import ids
from tocsin.notify.dispatch import send
from tocsin.notify.dispatch.send import SentDelivery, SentJournal
from tocsin.notify.models import AwaitedReceipt, Delivery

pytestmark = pytest.mark.usefixtures("database")

#: Notes a delivery as sent, and is killed.
_KILLED = """
import os, signal, sys
from pathlib import Path
import django
django.setup()
from tocsin.notify.dispatch.send import SentDelivery, SentJournal
SentJournal(Path(sys.argv[1])).note([SentDelivery.from_line(line) for line in sys.argv[2:]])
os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed(folder: Path, *sent: SentDelivery) -> None:
    """A process sends these deliveries and is killed before it can record them."""
    ended = subprocess.run([sys.executable, "-c", _KILLED, folder, *(one.line() for one in sent)], check=False)
    assert ended.returncode == -9


def _being_sent(post: OutboxHarness) -> Delivery:
    post.user("alice")
    post.page(post.alert(), "alice")
    Delivery.objects.update(status="sending", attempts=1, leased_by="killed", lease_until=post.now)
    return Delivery.objects.get()


def _delivery(at: datetime, id_: UUID | None = None, receipt_timeout: int | None = None) -> SentDelivery:
    return SentDelivery(id_ or ids.uuid7(), "their-id", at, receipt_timeout)


def test_page_sent_by_a_killed_process_is_not_repeated(post: OutboxHarness, mail: SmtpDouble, tmp_path: Path) -> None:
    page, sent_at = _being_sent(post), post.now
    _killed(tmp_path, _delivery(sent_at, page.pk, receipt_timeout=120))
    box = post.outbox(journal=SentJournal(tmp_path))
    box.maintain_leases()
    post.go(3600, box)
    page.refresh_from_db()
    assert (page.status, page.external_id, page.sent_at) == ("sent", "their-id", sent_at)
    assert AwaitedReceipt.objects.filter(delivery=page.pk, timeout_seconds=120).exists()
    assert mail.mails == []
    assert list(tmp_path.iterdir()) == []


def test_page_without_entry_is_sent_again_after_a_kill(post: OutboxHarness, mail: SmtpDouble, tmp_path: Path) -> None:
    _being_sent(post)
    _killed(tmp_path, _delivery(post.now))
    box = post.outbox(journal=SentJournal(tmp_path))
    box.maintain_leases()
    post.go(3600, box)
    assert len(mail.mails) == 1


def test_sent_and_recorded_pages_leave_an_empty_file(post: OutboxHarness, mail: SmtpDouble, tmp_path: Path) -> None:
    post.user("alice")
    post.page(post.alert(), "alice")
    box = post.outbox(journal=SentJournal(tmp_path))
    post.go(0, box)
    assert len(mail.mails) == 1
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == 0
    box.close()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_written_stops_no_page(post: OutboxHarness, mail: SmtpDouble, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    post.user("alice")
    post.page(post.alert(), "alice")
    post.go(0, post.outbox(journal=SentJournal(tmp_path / "file")))
    assert len(mail.mails) == 1


def test_file_of_a_living_process_is_left_alone(tmp_path: Path, now: datetime) -> None:
    living = SentJournal(tmp_path)
    living.note([_delivery(now)])
    recovered: list[SentDelivery] = []
    SentJournal(tmp_path).recover(recovered.extend)
    assert recovered == []
    living.close()
    SentJournal(tmp_path).recover(recovered.extend)
    assert len(recovered) == 1


def test_file_stays_until_its_entries_are_recorded(tmp_path: Path, now: datetime) -> None:
    _killed(tmp_path, sent := _delivery(now))

    def fail(sent: object) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        SentJournal(tmp_path).recover(fail)
    recovered: list[SentDelivery] = []
    SentJournal(tmp_path).recover(recovered.extend)
    assert recovered == [sent]


def test_line_cut_by_a_full_disk_is_skipped(tmp_path: Path, now: datetime) -> None:
    _killed(tmp_path, sent := _delivery(now))
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes() + sent.line()[:40].encode() + b"\n[1, 2]\n\0\0\xff\xfe")
    recovered: list[SentDelivery] = []
    SentJournal(tmp_path).recover(recovered.extend)
    assert recovered == [sent]


def test_file_that_cannot_be_opened_stops_no_lease(post: OutboxHarness, mail: SmtpDouble, tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    _being_sent(post)
    box = post.outbox(journal=SentJournal(tmp_path))
    box.maintain_leases()
    post.go(3600, box)
    assert len(mail.mails) == 1


def test_large_file_keeps_what_is_unrecorded(tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "MAX_BYTES", 500)
    journal = SentJournal(tmp_path)
    first, *others = [_delivery(now) for _ in range(20)]
    journal.note([first, *others])
    journal.forget([one.id for one in others])
    (file,) = tmp_path.iterdir()
    assert file.read_text() == f"{first.line()}\n"
