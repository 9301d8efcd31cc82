"""Sets up the webhook in Halo: create disabled, subscribe, read back, enable, test, and find the test in Halo's log.

A failed step undoes the previous ones in reverse order. An existing webhook is updated in place, even if its URL has
changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tocsin.core.errors import Permanent, Temporary
from tocsin.outbound.connectors.haloitsm.client import HaloClient, rows_of, whole
from tocsin.outbound.connectors.interfaces import NeedsAttention, RecordedClient

#: The events Tocsin subscribes to, in their "All" variant: "Assigned" never fires for a webhook.
EVENTS: tuple[tuple[str, tuple[str, ...], int | None], ...] = (
    ("New Ticket Logged", ("new ticket logged",), 3),
    ("Ticket Status Changed", ("ticket status changed",), 76),
    ("Ticket Closed", ("ticket closed", "closed"), 39),
    ("Ticket Reassigned", ("ticket reassigned", "ticket re-assigned"), None),
    ("Ticket Deleted", ("ticket deleted",), 1072),
    ("Ticket Updated by User", ("ticket updated by user",), 19),
)

#: The longest URL that Halo stores.
_MAX_URL_CHARS = 499

#: Full object with linked objects. The values of Halo's lists are undocumented, so the result is read back.
_PAYLOAD = 1


@dataclass(slots=True)
class WebhookSetupResult:
    """The completed steps; if `problem` is set, the last step is where the setup stopped."""

    steps: list[str] = field(default_factory=list)
    webhook_id: str = ""
    problem: str = ""
    #: Events that this Halo does not have.
    without: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DesiredWebhook:
    """The webhook to set up: its URL, and how to recognize an existing one."""

    url: str
    #: Username and password required by the URL.
    basic: tuple[str, str] | None = None
    #: The id of the webhook that Tocsin created.
    known: str = ""
    #: Whether a URL was a previous one of the same inbound integration.
    was_ours: Callable[[str], bool] = lambda url: False

    def own(self, hooks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
        """Finds the webhook among Halo's: by id, by URL, or by a previous URL."""
        ways: tuple[Callable[[Mapping[str, Any]], bool], ...] = (
            lambda hook: bool(self.known) and str(hook.get("id")) == self.known,
            lambda hook: hook.get("url") == self.url,
            self.is_ours,
        )
        return next((hook for is_it in ways for hook in hooks if is_it(hook)), None)

    def is_ours(self, hook: Mapping[str, Any]) -> bool:
        """Whether a webhook posts to a current or previous URL of this inbound integration."""
        url = str(hook.get("url") or "")
        return url == self.url or self.was_ours(url)


def set_up(
    client: HaloClient,
    line: RecordedClient,
    now: datetime,
    wanted: DesiredWebhook,
    *,
    wait: Callable[[int], bool] = lambda attempt: False,
) -> WebhookSetupResult:
    """Creates or updates the webhook.

    `wait` is called between polls of Halo's log with the number of polls so far; it returns False to stop. Never raises
    for errors of Halo: the result contains them. A failed step removes whatever this call created.
    """
    done = WebhookSetupResult()
    undo: list[Callable[[], None]] = []
    try:
        _carry_out(client, line, now, done, undo, wanted, wait)
    except (Temporary, Permanent) as error:
        done.problem = str(error)
        for step in reversed(undo):
            try:
                step()
            except (Temporary, Permanent) as other:
                done.steps.append(f"Could not be taken away again: {other}")
        if undo:
            done.steps.append("What had been made was taken away again, and what was there before is as it was.")
        done.webhook_id = ""
    return done


def _carry_out(
    client: HaloClient,
    line: RecordedClient,
    now: datetime,
    done: WebhookSetupResult,
    undo: list[Callable[[], None]],
    wanted: DesiredWebhook,
    wait: Callable[[int], bool],
) -> None:
    url, basic = wanted.url, wanted.basic
    if len(url) > _MAX_URL_CHARS:
        raise Permanent(
            f"The address is longer than Halo keeps ({_MAX_URL_CHARS} characters).", "Shorten TOCSIN_BASE_URL."
        )
    hooks = rows_of(client.get(line, "Webhook", now, "see its webhooks (the scope admin:webhooks)", query={"type": 0}))
    own = wanted.own(hooks)
    numbers = _numbers(client, line, now)
    body: dict[str, object] = {
        "name": "Tocsin", "type": 0, "url": url, "method": 0, "content_type": "application/json",
        "authentication_type": 1 if basic else 0, "payload_type": _PAYLOAD, "active": False,
        **({"basic_username": basic[0], "basic_password": basic[1]} if basic else {}),
        **({"id": own["id"]} if own else {}),
    }  # fmt: skip
    made = client.post(line, "Webhook", body, now, "make a webhook")
    number = str(made.get("id") or "")
    if not number:
        raise Permanent("Halo did not say the id of the webhook that it made.")
    done.webhook_id = number
    if own is None:
        undo.append(lambda: client.delete(line, f"Webhook/{number}", now, "take the webhook away"))
    else:
        before = {name: own[name] for name in (*body, "basic_username") if name in own}
        undo.append(lambda: _put_back(client, line, now, before))
    done.steps.append(_found(own, url))
    done.steps += [
        f"Halo has another webhook to this integration, {hook.get('name') or hook.get('id')}: take it away there, or "
        "each message comes twice."
        for hook in hooks
        if str(hook.get("id")) != number and wanted.is_ours(hook)
    ]
    _subscribe(client, line, now, number, numbers, done, undo)
    read = client.get(
        line, f"Webhook/{number}", now, "read the webhook back", query={"includedetails": True}
    )  # fmt: skip
    if read.get("url") != url:
        raise Permanent("Halo keeps another address for the webhook than the one it was given.")
    done.steps.append("Read it back from Halo: the address is right.")
    client.post(line, "Webhook", {"id": number, "active": True}, now, "switch the webhook on")
    done.steps.append("Switched it on.")
    _test(client, line, now, number, done, wait)


def _found(own: Mapping[str, Any] | None, url: str) -> str:
    if own is None:
        return "Made the webhook, switched off."
    changed = "" if own.get("url") == url else " and gave it the new address"
    return f"Found the webhook, switched it off{changed}."


def change_address(client: HaloClient, line: RecordedClient, now: datetime, number: str, url: str) -> None:
    """Changes the URL of an existing webhook and nothing else. Raises Halo's errors."""
    client.post(line, "Webhook", {"id": number, "url": url}, now, "give its webhook the new address")


def _numbers(client: HaloClient, line: RecordedClient, now: datetime) -> dict[str, int]:
    """The event numbers of this Halo by case-folded name. Empty if the list cannot be read; then the usual ones
    apply."""
    try:
        rows = rows_of(client.get(line, "Lookup", now, "read its list of events", query={"lookupid": 64}))
    except Permanent as error:
        if isinstance(error, NeedsAttention):
            raise
        rows = []
    return {
        str(row.get("name", "")).casefold().removesuffix("- all").removesuffix("(all)").strip(): int(number)
        for row in rows
        if (number := whole(row.get("id"))).lstrip("-").isdecimal() and "assigned" not in _flavour(row)
    }


def _flavour(row: dict[str, Any]) -> str:
    name = str(row.get("name", "")).casefold()
    return name.rpartition("-")[2] if " - " in name else ""


def _subscribe(
    client: HaloClient,
    line: RecordedClient,
    now: datetime,
    number: str,
    numbers: dict[str, int],
    done: WebhookSetupResult,
    undo: list[Callable[[], None]],
) -> None:
    """Halo drops events posted with the webhook: each needs a notification of its own."""
    rows = rows_of(client.get(line, "Notification", now, "see its notifications", query={"webhook_id": number}))
    subscribed = {whole(row.get("eventno")) for row in rows}
    said = []
    for name, names, usual in EVENTS:
        event = next((numbers[known] for known in names if known in numbers), None if numbers else usual)
        if event is None:
            done.without.append(name)
            continue
        said.append(name)
        if str(event) in subscribed:
            continue
        made = client.post(
            line,
            "Notification",
            {
                "webhook_id": number, "eventno": event, "name": name, "type": -2, "delivery_method": 6, "agent_id": 0,
                "filter_type": 2, "conditions": [], "condition_count": 0, "guid": None,
            },
            now,
            f"subscribe the webhook to {name}",
        )  # fmt: skip
        row = whole(made.get("id"))
        if row:
            undo.append(lambda row=row: client.delete(line, f"Notification/{row}", now, "take the event away"))  # type: ignore[misc]
    done.steps.append(f"Subscribed it to {', '.join(said)}.")
    if done.without:
        done.steps.append(f"This Halo has no event for {', '.join(done.without)}: reconciliation finds those changes.")


def _put_back(client: HaloClient, line: RecordedClient, now: datetime, before: dict[str, object]) -> None:
    """Restores an existing webhook, including whether it was enabled."""
    client.post(line, "Webhook", before, now, "put the webhook back")


def _test(
    client: HaloClient,
    line: RecordedClient,
    now: datetime,
    number: str,
    done: WebhookSetupResult,
    wait: Callable[[int], bool],
) -> None:
    """Makes Halo send its own test and checks the delivery log, ignoring earlier entries."""
    earlier = [_delivery(row) for row in _deliveries(client, line, now, number)]
    client.post(line, "Webhook", {"id": number, "_test": True}, now, "send its test")
    done.steps.append("Asked Halo to send its test.")
    attempt = 0
    while True:
        rows = [row for row in _deliveries(client, line, now, number) if _delivery(row) not in earlier]
        if rows:
            break
        attempt += 1
        if not wait(attempt):
            done.steps.append("Halo's log does not show the test yet. Log a ticket to see it arrive.")
            return
    last = rows[-1]
    status = whole(last.get("responsestatus"))
    if status.startswith("2"):
        done.steps.append(f"Halo's log says that the test arrived here (answered {status}).")
        return
    error = str(last.get("error") or f"it was answered {status or 'nothing'}")
    raise Permanent(
        f"Halo's test did not arrive: {error}.",
        "Halo's cloud must be able to reach this address; where it cannot, use pull mode.",
    )


def _delivery(row: dict[str, Any]) -> tuple[str, str]:
    return whole(row.get("id")), str(row.get("timestamp", ""))


def _deliveries(client: HaloClient, line: RecordedClient, now: datetime, number: str) -> list[dict[str, Any]]:
    query = {"webhook_id": number, "pageinate": True, "page_size": 50, "page_no": 1}
    rows = rows_of(client.get(line, "WebhookEvent", now, "read its log of deliveries", query=query))
    return sorted(rows, key=lambda row: str(row.get("timestamp", "")))
