"""Lighthouse on the pages opened most: performance, accessibility, best practices, as on a phone with a slow line.

The scores depend on the calm of the machine: run it on one that does nothing else.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence

import httpx

from benchmarks import lighthouse
from benchmarks.harness import TOKEN, report, sign_in, tocsin

PROMISED = 0.95
TICKETS = 60

#: The pages, with an alert's number.
PATHS = (
    "/", "/alerts/", "/alerts/{alert}/", "/inbound-log/", "/on-call/", "/on-call/calendar/", "/reports/",
    "/reports/interruptions/", "/integrations/", "/integrations/add/", "/policies/", "/users/", "/me/", "/system/",
)  # fmt: skip


def main() -> None:
    """Opens some alerts, then looks at the pages."""
    missing = lighthouse.is_missing()
    if missing:
        sys.exit(missing)
    with tocsin() as served, sign_in(served) as browser:
        number = [open_alert(served.url, ticket) for ticket in range(TICKETS)][-1]
        report("pages", *looked_at(served.url, number, dict(browser.cookies), lighthouse.CATEGORIES))


def looked_at(
    url: str, alert: int, cookies: Mapping[str, str], categories: Sequence[str]
) -> tuple[dict[str, object], dict[str, bool]]:
    """What Lighthouse says of the pages as figures, and which promises it says are kept."""
    figures: dict[str, object] = {}
    promises = {}
    paths = [path.format(alert=alert) for path in PATHS]
    for path, page in lighthouse.look(url, paths, cookies, categories).items():
        name = path.replace(str(alert), "…")
        for category, score in page.scores.items():
            figures[f"{name} {category}"] = score * 100
        for audit in ("largest-contentful-paint", "cumulative-layout-shift"):
            if audit in page.audits:
                figures[f"{name} {audit}"] = page.audits[audit].value
        is_kept = min(page.scores.values()) >= PROMISED
        wrong = {audit: seen.shown for audit, seen in page.audits.items() if seen.score == 0}
        promises[f"{name}: each at least {PROMISED:.0%}{'' if is_kept else f', wrong: {wrong}'}"] = is_kept
    return figures, promises


def open_alert(url: str, ticket: int) -> int:
    """Posts a new ticket and returns its alert's number."""
    body = {
        "id": str(uuid.uuid4()),
        "event": "new ticket logged",
        "object_id": 20_000 + ticket,
        "ticket": {
            "id": 20_000 + ticket,
            "summary": f"VPN down: Zürich, {ticket} users",
            "details": "VPN gateway zrh-vpn-01 is not responding. " * 8,
            "status": {"id": 1, "name": "New"},
            "priority": {"name": ("Critical", "High", "Medium")[ticket % 3]},
            "client_name": "Acme Corp",
        },
    }
    answer = httpx.post(f"{url}/in/{TOKEN}", json=body)
    answer.raise_for_status()
    return int(answer.json()["alert_id"])


if __name__ == "__main__":
    main()
