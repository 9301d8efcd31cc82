"""Big tables: a million alerts and five million messages; how long pages and the API's answers take, and ingest against
the same server before.

The rows are made by `big_rows`. Notifications and deliveries are not among them.
"""

from __future__ import annotations

import base64
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import cycle

import httpx
import psycopg

from benchmarks import big_rows
from benchmarks.harness import SECONDS, TOKEN, Served, api_token, database, halo_script, report, sign_in, tocsin, wrk
from benchmarks.pages import open_alert

ALERTS, MESSAGES = (1_000_000, 5_000_000) if SECONDS > 1 else (2_000, 4_000)
#: Each kind of page is asked for so often, or for so many seconds if they are slow.
TIMES = 40 if SECONDS > 1 else 1
PATIENCE = 15.0
PROMISED_MS = 150.0
INTEGRATIONS = 8
#: What the full tables take on disk, and what the database writes beside them.
NEEDED_GB = 20

CONFIGURATION = "settings: {message_size_cap_mb: 100000}\nintegrations:\n" + "\n".join(
    f"  - {{name: Source {n}, kind: api, token: {n}edcba9876543210fedcba987654321{n}, escalation_policy: Later, "
    f"recipients: {{groups: [Desk]}}}}"
    for n in range(INTEGRATIONS)
)

type Addresses = Mapping[str, Sequence[str]]


def places(connection: psycopg.Connection) -> dict[str, str]:
    """Ids that the addresses name: an alert and a message in the middle, an integration."""
    results = connection.execute(
        "SELECT (SELECT id FROM alerts_alert ORDER BY id OFFSET %(alerts)s LIMIT 1), (SELECT id FROM "
        "inbound_inboundmessage WHERE alert_id IS NOT NULL ORDER BY id OFFSET %(messages)s LIMIT 1), "
        "(SELECT id FROM inbound_integration WHERE name = 'Source 3'), (SELECT max(id) FROM alerts_alert), "
        "(SELECT id FROM inbound_inboundmessage WHERE status = 'Mapped Ignored' ORDER BY id LIMIT 1)",
        {"alerts": ALERTS // 2, "messages": MESSAGES // 3},
    ).fetchone()
    assert results is not None
    names = ("alert", "message", "integration", "newest", "ignored")
    at = {name: str(value) for name, value in zip(names, results, strict=True)}
    for name in ("alert", "message"):
        at[f"after_{name}"] = base64.urlsafe_b64encode(at[name].encode()).decode().rstrip("=")
    return at


def pages(at: Mapping[str, str]) -> Addresses:
    """The addresses of each kind of page."""
    words = {"rare word": big_rows.RARE, "common word": big_rows.COMMON, "no such word": "qwertzuiop"}
    alerts, log = "/alerts/", "/inbound-log/"
    return {
        "alerts": [alerts],
        "alerts, filtered": [
            f"{alerts}?priority=low",
            f"{alerts}?integration={at['integration']}",
            f"{alerts}?client=acme",
            f"{alerts}?tag=rack-250",
            f"{alerts}?tab=acknowledged",
            f"{alerts}?sort=oldest",
        ],
        "closed alerts": [f"{alerts}?tab=closed"],
        "closed alerts, oldest first": [f"{alerts}?tab=closed&sort=oldest"],
        "closed alerts, deep": [f"{alerts}?tab=closed&cursor={at['alert']}"],
        "closed alerts, of an integration": [f"{alerts}?tab=closed&integration={at['integration']}"],
        "closed alerts, rare priority": [f"{alerts}?tab=closed&priority=low"],
        "closed alerts, rare client": [f"{alerts}?tab=closed&client=rarely"],
        "closed alerts, rare tag": [f"{alerts}?tab=closed&tag=rack-1777", f"{alerts}?tab=closed&tag=site%3Drack-1777"],
        **{f"closed alerts, {name}": [f"{alerts}?tab=closed&q={word}"] for name, word in words.items()},
        **{f"search, {name}": [f"/search/?q={word}"] for name, word in words.items()},
        "search, number of a ticket": ["/search/?q=1000777", "/search/?q=%231001234"],
        "an alert": [f"{alerts}{at['alert']}/", f"{alerts}{at['newest']}/"],
        "log": [log],
        "log, deep": [f"{log}?cursor={at['message']}"],
        "log, of an integration": [f"{log}?integration={at['integration']}"],
        "log, of an alert": [f"{log}?alert={at['alert']}"],
        **{
            f"log, {outcome}": [f"{log}?outcome={outcome}"]
            for outcome in ("opened", "appended", "updated", "closed", "ignored", "failed", "delayed")
        },
        **{f"log, {name}": [f"{log}?q={word}"] for name, word in words.items()},
        "log, number of a ticket": [f"{log}?q={1_000_000 + ALERTS * 4 // 5}"],
        "a message": [f"{log}{at['message']}/", f"{log}{at['ignored']}/"],
        "Home": ["/"],
        "integrations": ["/integrations/"],
    }


def answers(at: Mapping[str, str]) -> Addresses:
    """The addresses of each kind of the API's answers."""
    alerts, log = "/api/v1/alerts", "/api/v1/inbound-messages"
    return {
        "API alerts": [alerts, f"{alerts}?status=open", f"{alerts}?status=closed", f"{alerts}?limit=50"],
        "API alerts, deep": [f"{alerts}?cursor={at['after_alert']}"],
        "API alerts, filtered": [f"{alerts}?integration=Source%203", f"{alerts}?priority=critical&status=closed"],
        "API alerts, rare": [f"{alerts}?priority=low", f"{alerts}?client=Rarely%20Ltd"],
        "API alerts, by subject": [
            f"{alerts}?subject={word}" for word in (big_rows.RARE, big_rows.COMMON, "qwertzuiop")
        ],
        "API alerts, by ticket": [f"{alerts}?source_id=1000777"],
        "API alerts, acknowledged": [f"{alerts}?acknowledged=true", f"{alerts}?acknowledged=false&status=open"],
        "API alerts, by time": [
            f"{alerts}?opened_after=2020-01-01T00:00:00Z",
            f"{alerts}?opened_before=2020-01-01T00:00:00Z",
        ],
        "API alert, events": [f"{alerts}/{at['alert']}", f"{alerts}/{at['alert']}/events"],
        "API messages": [log, f"{log}?status=Mapped%20Ignored", f"{log}?integration=Source%203"],
        "API messages, deep": [f"{log}?cursor={at['after_message']}"],
        "API messages, rare": [f"{log}?status=Mapped%20Updated", f"{log}?status=Mapping%20Failed"],
        "API messages, of an alert": [f"{log}?alert_id={at['alert']}"],
        "API messages, by subject": [
            f"{log}?subject={word}" for word in (big_rows.RARE, big_rows.COMMON, "qwertzuiop")
        ],
        "API messages, by ticket": [f"{log}?source_id={1_000_000 + ALERTS * 4 // 5}"],
        "API messages, by time": [f"{log}?received_before=2020-01-01T00:00:00Z"],
        "API message": [f"{log}/{at['message']}"],
    }


def timed(client: httpx.Client, addresses: Sequence[str]) -> list[float]:
    """The milliseconds that each answer took; one that failed took for ever.

    The first of each is not counted, where there is time for that.
    """
    took: list[float] = []
    deadline = time.monotonic() + PATIENCE
    for number, address in enumerate(cycle(addresses)):
        started_at = time.perf_counter()
        try:
            is_right = client.get(address).status_code == 200
        except httpx.TimeoutException:
            is_right = False
        if number >= len(addresses) or SECONDS == 1 or not is_right:
            took.append(1000 * (time.perf_counter() - started_at) if is_right else float("inf"))
        if len(took) >= TIMES or (time.monotonic() > deadline and took):
            return sorted(took)
    raise AssertionError("addresses is empty")


def p95(times: Sequence[float]) -> float:
    """The 95th percentile of sorted times."""
    return times[int(0.95 * (len(times) - 1))]


def measured(served: Served, client: httpx.Client, connection: psycopg.Connection) -> dict[str, float]:
    """The p95 of each kind of page and answer, in milliseconds."""
    at = places(connection)
    results = {kind: p95(timed(client, addresses)) for kind, addresses in pages(at).items()}
    headers = {"Authorization": f"Bearer {api_token(served)}"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=30) as script:
        return results | {kind: p95(timed(script, addresses)) for kind, addresses in answers(at).items()}


def until_quiet(connection: psycopg.Connection) -> None:
    """Waits, five minutes at most, until the database has done with what filling left it to do."""
    deadline = time.monotonic() + 300
    busy = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')"
    while time.monotonic() < deadline:
        results = connection.execute(busy).fetchone()
        if results is None or not results[0]:
            break
        time.sleep(1)
    connection.execute("CHECKPOINT")


def pattern(served: Served, connection: psycopg.Connection) -> big_rows.Pattern:
    """The rows of a real message of 1.5 kB."""
    alert = open_alert(served.url, 1)
    results = connection.execute("SELECT id FROM inbound_inboundmessage WHERE alert_id = %s", (alert,)).fetchone()
    assert results is not None
    # Its details are made longer here: 1.5 kB in all.
    connection.execute(
        "UPDATE inbound_inboundmessage SET raw = convert_to(replace(convert_from(raw, 'UTF8'), 'VPN gateway', "
        "'VPN gateway' || repeat(' again', greatest(0, 1400 - length(raw)) / 48)), 'UTF8') WHERE id = %s",
        (results[0],),
    )
    return big_rows.Pattern(str(results[0]), alert)


def see_that_there_is_room() -> None:
    """Ends here, with a sentence, where the tables would fill the disk."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free / 1e9
    if SECONDS > 1 and free < NEEDED_GB:
        raise SystemExit(
            f"big_tables needs {NEEDED_GB} GB of room, and {folder} has {free:.0f}: set TMPDIR to elsewhere."
        )


def main() -> None:
    """Measures ingest, fills the tables, measures pages, and ingest again."""
    see_that_there_is_room()
    with tocsin(more=CONFIGURATION) as served, sign_in(served) as client, database(served) as connection:
        integration = f"{served.url}/in/{TOKEN}"
        if SECONDS > 1:
            wrk(integration, halo_script(size=1_500), seconds=2)
        before = wrk(integration, halo_script(size=1_500))
        filled = big_rows.fill(connection, pattern(served, connection), ALERTS, MESSAGES)
        size = connection.execute("SELECT pg_database_size(current_database()) / 1e9").fetchone()
        results = measured(served, client, connection)
        until_quiet(connection)
        after = wrk(integration, halo_script(size=1_500))
        remaining = connection.execute("SELECT count(*) FROM inbound_inboundmessage").fetchone()
    assert size is not None
    assert remaining is not None
    slow = [f"{kind} {time:,.0f} ms" for kind, time in results.items() if time >= PROMISED_MS]
    ratio = 100 * after.per_second / before.per_second
    report(
        "big_tables",
        {
            "alerts": ALERTS,
            "messages": MESSAGES,
            "database GB": float(size[0]),
            **{f"filled, {name}": seconds for name, seconds in filled.items()},
            **{f"{kind}, p95 ms": time if time < float("inf") else "failed" for kind, time in results.items()},
            "median of the p95 ms": statistics.median(results.values()),
            "ingest before, per second": before.per_second,
            "ingest after, per second": after.per_second,
            "ingest after, %": ratio,
        },
        {
            f"each p95 < {PROMISED_MS:.0f} ms{f', slower: {"; ".join(slow)}' if slow else ''}": not slow,
            "ingest within 20 % of empty": ratio >= 80,
            "no message was removed": remaining[0] > MESSAGES,
        },
    )


if __name__ == "__main__":
    main()
