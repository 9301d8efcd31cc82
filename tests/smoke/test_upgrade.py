"""Upgrades with work in progress: nothing is lost, nothing is sent twice; and the way back.

The next version exists only here (tests/upgrade). The backups of releases are made by scripts/upgrade_fixture.py.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.installation import Installation, Node, ticket, traces, until
from tests.upgrade.work_in_progress import SECRET_KEY
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.operate.backup.archive import BackupReader

ROOT = Path(__file__).resolve().parents[2]
RELEASES = sorted((ROOT / "tests" / "upgrade" / "backups").iterdir())

#: The environment of a process of the next version.
NEXT = {"DJANGO_SETTINGS_MODULE": "tests.upgrade.next_settings", "PYTHONPATH": str(ROOT)}

#: What is sent, by minutes after the backup: to whom, about which integration's alert.
QUEUED = {("alice", "Queued")}
STEPS = (
    (17, {("carol", "Workflow")}),
    (14, {("alice", "Delayed")}),
    (10, {("bob", "Snoozed")}),
    (6, {("bob", "Paged")}),
)

#: How many alerts were paged, and the largest number of pages of one.
_PAGED = """
SELECT count(*) AS sent, max(pages) AS most FROM (
  SELECT o.alert_id, count(*) AS pages FROM notify_delivery d JOIN notify_notification o ON o.id = d.notification_id
  WHERE o.purpose = 'page' AND d.status = 'sent' GROUP BY o.alert_id
) AS by_alert
"""


@pytest.fixture
def restored(request: pytest.FixtureRequest, home: Path, mails: SmtpDouble) -> Iterator[tuple[Installation, datetime]]:
    """An installation with the built-in PostgreSQL and the state of a release's backup, at its moment."""
    environment = {
        "TOCSIN_SECRET_KEY": SECRET_KEY,
        "TOCSIN_SMTP_URL": mails.url,
        "TOCSIN_EMAIL_FROM": "tocsin@example.org",
    }
    installation = Installation(home, environment)
    done = installation.run("restore", str(request.param))
    assert done.returncode == 0, done.stderr
    with BackupReader.open(request.param) as reader:
        made_at = reader.manifest.made_at
    set_clock(installation, made_at)
    try:
        yield installation, made_at
    finally:
        installation.end()


def set_clock(installation: Installation, at: datetime) -> None:
    """The test clock shows that moment, while no node runs."""
    with EmbeddedPostgres(installation.data_dir) as embedded, psycopg.connect(embedded.start()) as connection:
        seconds = (at - datetime.now(UTC)).total_seconds()
        connection.execute("UPDATE core_clockoffset SET seconds = %s", (seconds,))


def sent(mails: SmtpDouble) -> Counter[tuple[str, str]]:
    """How many mails each person got about each integration's alert, or from the workflow."""
    words = ("Workflow:", "Queued", "Delayed", "Snoozed", "Paged")
    return Counter(
        (mail.to.partition("@")[0], next((word.rstrip(":") for word in words if word in mail.subject), mail.subject))
        for mail in mails.mails
    )


def follow(installation: Installation, mails: SmtpDouble) -> None:
    """Everything that was in progress happens at its time, once."""
    expected = Counter(QUEUED)
    installation.jump(minutes=1)
    wait_for_mails(mails, expected)
    for minutes, due in STEPS:
        assert sent(mails) == expected
        installation.jump(minutes=minutes)
        expected += Counter(due)
        wait_for_mails(mails, expected)
    installation.jump(minutes=1)
    assert sent(mails) == expected


def wait_for_mails(mails: SmtpDouble, expected: Counter[tuple[str, str]]) -> None:
    with mails.arrived:
        mails.arrived.wait_for(lambda: sent(mails) == expected, 60)
    assert sent(mails) == expected


@pytest.mark.long
@pytest.mark.parametrize("restored", RELEASES, ids=lambda file: file.name, indirect=True)
def test_upgrade_goes_on_with_the_work_of_each_release(
    restored: tuple[Installation, datetime], mails: SmtpDouble
) -> None:
    installation, _made_at = restored
    node = installation.serve(**NEXT)
    assert node.url
    assert "operate_next" in tables(installation)
    assert "before-upgrade-" in node.log
    follow(installation, mails)
    assert traces(installation.logs()) == []


@pytest.mark.long
@pytest.mark.parametrize("restored", RELEASES[-1:], ids=lambda file: file.name, indirect=True)
def test_backup_of_the_upgrade_leads_back_with_all_work(
    restored: tuple[Installation, datetime], mails: SmtpDouble
) -> None:
    installation, made_at = restored
    mails.answers += ["450 later"] * 100
    assert installation.serve(**NEXT).url
    assert installation.nodes[-1].terminate() == 0

    refused = installation.serve()
    assert refused.process.wait(60) == 1
    assert "newer Tocsin's" in refused.log
    (backup,) = (installation.data_dir / "backups").iterdir()
    done = installation.run("restore", "--force", str(backup))
    assert done.returncode == 0, done.stderr
    set_clock(installation, made_at)

    mails.answers.clear()
    assert installation.serve().url
    assert "operate_next" not in tables(installation)
    follow(installation, mails)


def tables(installation: Installation) -> set[str]:
    return {row["relname"] for row in installation.rows("SELECT relname FROM pg_class WHERE relkind = 'r'")}


def exceptions(log: str) -> list[str]:
    """The last line of each traceback."""
    return re.findall(r"^Traceback .*?\n(\w\S*: [^\n]*)", log, re.MULTILINE | re.DOTALL)


@pytest.mark.long
def test_nodes_of_two_versions_share_the_work(tocsin: Installation, mails: SmtpDouble) -> None:
    """A rolling upgrade: each ticket is paged once, whichever node takes it, before, during and after."""
    tickets = iter(range(1, 1000))
    posted: list[int] = []

    def post(node: Node, count: int) -> None:
        for number in (next(tickets) for _ in range(count)):
            # Pending: the next version's migration locks the table of alerts just then.
            assert tocsin.post(ticket(number), node).json()["status"] in ("Mapped Opened", "Pending")
            posted.append(number)

    old = tocsin.serve()
    post(old, 5)
    new = tocsin.serve(**NEXT)
    while new.process.poll() is None and "\n" not in new.out.read_text():
        post(old, 1)
    for _ in range(5):
        post(old, 1)
        post(new, 1)
    # A node of the old version that starts meanwhile works too.
    old.kill()
    again = tocsin.serve()
    for _ in range(5):
        post(new, 1)
        post(again, 1)
    assert "newer Tocsin's" in again.log
    assert again.terminate() == 0
    post(new, 5)

    tocsin.jump(minutes=2)
    until("every ticket is paged", lambda: tocsin.rows(_PAGED)[0]["sent"] == len(posted), 90)
    assert tocsin.rows(_PAGED)[0]["most"] == 1
    versions = {row["version"] for row in tocsin.rows("SELECT version FROM operate_node")}
    assert "99.0.0" in versions
    # Kept by the next version's default, for rows that nodes of the old one wrote.
    assert tocsin.rows("SELECT DISTINCT next_version FROM alerts_alert") == [{"next_version": "upgraded"}]
    assert exceptions(tocsin.logs()) == []
