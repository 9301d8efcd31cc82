"""What comes back from a page: its delivery receipt, an opt-out, and the command of a paged person, by text, phone
key, chat button or mail. Identifies the user, checks the permission and runs the command; the result always has an
answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.access import boundary
from tocsin.access.boundary import Boundary
from tocsin.access.roles import Role
from tocsin.alerts import lifecycle, service, store
from tocsin.alerts.commands import COMMAND_CLASSES, Actor, Assign, Command, Hold, Reply
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, IS_MERGED, ActorKind, CommandChannel, CommandKind
from tocsin.alerts.store import WITH_INTEGRATION, is_about, join_alert, resolved_id
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind
from tocsin.core.errors import Rejected
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import NO_REASON, AlertRef, Person, Reason, Text, joined, reason_from_json
from tocsin.core.validation.inputs import parse_duration
from tocsin.notify.channels.chat import SNOOZE_CHOICES
from tocsin.notify.channels.phone import REPEAT_KEYS
from tocsin.notify.dispatch import claim, results, updates
from tocsin.notify.dispatch.send import redact_address
from tocsin.notify.interfaces import CallPrompt, CallScript, CallState, Receipt
from tocsin.notify.providers import health, pool
from tocsin.notify.providers.pool import channel
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import KEY_PRESSED, MACHINE_ANSWERED
from tocsin.notify.rules.pre_send_check import FAULTS, DueDelivery, bundle_of
from tocsin.notify.states import DeliveryStatus, Purpose, ReceiptState
from tocsin.notify.text import formatting, render
from tocsin.notify.text.formatting import ChatRequest, Key, ParsedCommand, localize, spoken_phrase, voice_of
from tocsin.notify.text.render import ContentLevel
from tocsin.oncall import loader
from tocsin.people.models import Group
from tocsin.people.permissions import Viewer, roles_in_groups, viewer_from
from tocsin.people.sql import join_user, load_with_groups

# ---------- opt outs
# An opt-out applies to the number on the channel for all providers: nobody gets texts against their will.


TEST_PASSED = Text("Thank you: the daily test is answered.")
OPTED_IN = Text("You will receive text messages from Tocsin again.")


def opt_out(connection: Connection, channel: str, address: str, provider: str, now: datetime) -> None:
    """Stops all messages to the address on the channel."""
    connection.execute(
        "INSERT INTO notify_optout (channel, address, provider_name, at) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (channel, address) DO NOTHING",
        (channel, address, provider, now),
    )


def opt_in(connection: Connection, channel: str, address: str) -> bool:
    """Allows messages to the address again. Returns whether they were stopped."""
    query = "DELETE FROM notify_optout WHERE channel = %s AND address = %s"
    return connection.execute(query, (channel, address)).rowcount > 0


def opted_out(connection: Connection) -> list[tuple[int, str, str, datetime]]:
    """Returns id, name, contact method and time of opt-out of each active user who has opted out with one."""
    rows = database.rows(
        connection,
        "SELECT u.id, u.display_name AS name, m.label, o.at FROM notify_optout o "
        "JOIN people_contactmethod m ON m.channel = o.channel AND m.address = o.address AND m.is_enabled "
        f"{join_user('m.user_id')} AND u.is_active ORDER BY name, m.label",
    )
    return [(row["id"], row["name"], row["label"], row["at"]) for row in rows]


# ---------- delivery receipts
# Applies delivery receipts. After a failure, the next provider takes over at once; if nobody was reached, the user's
# next contact method starts. Runs inside the caller's transaction.


#: How far back deliveries are matched by the vendor's message id alone.
RECEIPT_WINDOW = timedelta(days=2)


def apply_receipt(
    connection: Connection, provider: str, receipt: Receipt, now: datetime, *, is_final: bool = False
) -> list[UUID]:
    """Records a receipt from `provider` and applies its consequences. Returns the ids of the deliveries concerned. A
    final failure (`is_final`) is not handed to another provider.
    """
    delivery_ids = find_deliveries(connection, provider, receipt.key, receipt.external_id, now)
    if not delivery_ids:
        return []
    if receipt.state is not ReceiptState.IN_TRANSIT:
        _add_cost(connection, delivery_ids[0], provider, receipt, now)
    match receipt.state:
        case ReceiptState.IN_TRANSIT:
            results.note_under_way(connection, delivery_ids, now)
            return delivery_ids
        case ReceiptState.DELIVERED | ReceiptState.ANSWERED:
            _delivered(connection, delivery_ids, provider, receipt, now)
        case ReceiptState.FAILED:
            _failed(connection, delivery_ids, provider, receipt, now, is_final=is_final)
        case ReceiptState.NOT_REACHED:
            _not_reached(connection, delivery_ids, provider, receipt, now)
        case ReceiptState.ENDED:
            _ended(connection, delivery_ids, provider, receipt, now)
    alert_ids = connection.execute(
        "SELECT DISTINCT alert_id FROM notify_delivery WHERE id = ANY(%s) AND alert_id IS NOT NULL", (delivery_ids,)
    ).fetchall()
    if alert_ids:
        database.notify(connection, "alerts", *(f"alert:{row[0]}" for row in alert_ids))
    else:
        # A user who tests a contact method is watching the page.
        database.notify(connection, "outbox")
    return delivery_ids


_ADD_COST = """
WITH reported AS (
  INSERT INTO notify_processedcallback (key, at) VALUES (%(key)s, %(now)s) ON CONFLICT DO NOTHING RETURNING key
)
UPDATE notify_delivery SET cost = coalesce(cost, 0) + %(amount)s, currency = %(currency)s
WHERE id = %(id)s AND currency IN ('', %(currency)s) AND EXISTS (SELECT FROM reported)
"""


def _add_cost(connection: Connection, delivery_id: UUID, provider: str, receipt: Receipt, now: datetime) -> None:
    """Adds what the vendor charged, once for each message of the vendor's: a long text is several."""
    if receipt.cost is not None:
        key = hashlib.sha256(f"{provider}\0cost\0{receipt.external_id or receipt.key}".encode()).hexdigest()
        charged = {"id": delivery_id, "amount": receipt.cost.amount, "currency": receipt.cost.currency}
        connection.execute(_ADD_COST, {**charged, "key": key, "now": now})


def find_deliveries(connection: Connection, provider: str, key: str, external_id: str, now: datetime) -> list[UUID]:
    """Returns the deliveries that were sent as the message with that key, else with that vendor message id."""
    try:
        notification = UUID(key) if key else None
    except ValueError:
        notification = None
    if notification is not None:
        rows = connection.execute(
            "SELECT id FROM notify_delivery WHERE (notification_id = %(key)s OR id = ANY(ARRAY("
            "SELECT unnest(deliveries) FROM notify_bundle WHERE notification = %(key)s))) "
            "AND provider_name = %(provider)s ORDER BY id",
            {"key": notification, "provider": provider},
        ).fetchall()
    elif external_id:
        # Ids are UUIDv7s: the primary key leads to the newest rows, and no other index is needed.
        rows = connection.execute(
            "SELECT id FROM notify_delivery WHERE id >= %s AND external_id = %s AND provider_name = %s ORDER BY id",
            (ids.first_uuid7(now - RECEIPT_WINDOW), external_id, provider),
        ).fetchall()
    else:
        rows = []
    return [row[0] for row in rows]


# Includes messages that were tried and are queued again, or were cancelled, after their outcome was lost: the receipt
# reports the outcome.
_POSSIBLY_SENT = """(status IN ('sending', 'sent', 'delivered') OR (status = 'queued' AND attempts > 0)
            OR (status = 'cancelled' AND outcome_unknown_at IS NOT NULL))"""

# If nothing else was sent through the provider, the receipt is about an attempt whose response was lost and that was
# handed to another provider.
_DELIVERED = f"""
WITH lost AS (
  SELECT DISTINCT ON (notification_id) id FROM notify_delivery d WHERE id = ANY(%(ids)s)
    AND status = 'failed' AND attempts > 0 AND NOT is_permanent AND receipt = ''
    AND NOT EXISTS (SELECT FROM notify_delivery o
                    WHERE o.id = ANY(%(ids)s) AND o.notification_id = d.notification_id AND {_POSSIBLY_SENT})
  ORDER BY notification_id, outcome_unknown_at IS NULL, id DESC
), held AS (
  SELECT id, status FROM notify_delivery WHERE id = ANY(%(ids)s) AND ({_POSSIBLY_SENT} OR id IN (SELECT id FROM lost))
    AND receipt NOT IN ('answered', 'not_reached') ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d
SET status = 'delivered', receipt = %(receipt)s, delivered_at = coalesce(d.delivered_at, %(now)s),
    sent_at = coalesce(d.sent_at, d.outcome_unknown_at, %(now)s), error = '{{}}',
    lease_until = NULL, leased_by = '', ended_at = NULL,
    reason = CASE WHEN held.status IN ('queued', 'failed', 'cancelled') THEN %(reason)s ELSE d.reason END,
    external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id
"""
# Once delivered, a message must not also be sent through another provider.
_CANCEL_OTHER_SENDS = """
WITH other AS (
  SELECT o.id FROM notify_delivery d JOIN notify_delivery o ON o.notification_id = d.notification_id
  WHERE d.id = ANY(%(ids)s) AND d.status = 'delivered' AND o.status IN ('queued', 'sending')
  ORDER BY o.id FOR NO KEY UPDATE OF o
)
UPDATE notify_delivery d
SET status = CASE WHEN d.status = 'queued' THEN 'cancelled' ELSE d.status END,
    reason = CASE WHEN d.status = 'queued' THEN %(reason)s ELSE d.reason END,
    cancel_requested = CASE WHEN d.status = 'queued' THEN d.cancel_requested ELSE %(reason)s END,
    ended_at = CASE WHEN d.status = 'queued' THEN %(now)s ELSE d.ended_at END
FROM other WHERE d.id = other.id AND d.status IN ('queued', 'sending')
"""


def _delivered(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime
) -> None:
    parameters = {
        "ids": delivery_ids,
        "receipt": str(receipt.state),
        "now": now,
        "external_id": receipt.external_id[:200],
        "reason": page_planner.DELIVERED_AFTER_ALL(provider=provider),
    }
    connection.execute(_DELIVERED, parameters)
    connection.execute(_CANCEL_OTHER_SENDS, parameters)
    results.end(connection, delivery_ids)
    health.record_outcomes(connection, [health.HealthUpdate(provider, now)])


_NOT_REACHED = f"""
WITH held AS (
  SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) AND {_POSSIBLY_SENT}
    AND receipt NOT IN ('answered', 'not_reached') ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d
SET status = 'sent', receipt = 'not_reached', delivered_at = NULL,
    sent_at = coalesce(d.sent_at, d.outcome_unknown_at, %(now)s),
    lease_until = NULL, leased_by = '', ended_at = NULL, error = '{{}}',
    reason = {claim.joined_reason("d.reason", "%(reason)s")},
    external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id RETURNING d.id
"""


def _ended(connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime) -> None:
    """A call that ended before it said anything (or while the vendor was still detecting a machine) reached nobody."""
    without_receipt = connection.execute(
        "SELECT id FROM notify_delivery WHERE id = ANY(%s) AND receipt = ''", (delivery_ids,)
    ).fetchall()
    if without_receipt:
        not_reached = replace(receipt, reason=page_planner.CALL_CUT_OFF())
        _not_reached(connection, [row[0] for row in without_receipt], provider, not_reached, now)


def _not_reached(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime
) -> None:
    """Records that the provider worked but nobody was reached."""
    parameters = {"ids": delivery_ids, "now": now, "reason": receipt.reason, "external_id": receipt.external_id[:200]}
    rows = connection.execute(database.literal(_NOT_REACHED), parameters).fetchall()
    changed = [row[0] for row in rows]
    results.end(connection, delivery_ids)
    results.start_next_method(connection, changed, page_planner.CALL_NOT_REACHED(), now)
    health.record_outcomes(connection, [health.HealthUpdate(provider, now)])


# A message that was sent again has another vendor id. A receipt for the first attempt does not apply to it.
_FAILED = """
WITH held AS (
  SELECT id, status, cancel_requested FROM notify_delivery
  WHERE id = ANY(%(ids)s) AND status IN ('sending', 'sent')
    AND receipt = '' AND (external_id = '' OR %(external_id)s::text IN ('', external_id))
  ORDER BY id FOR NO KEY UPDATE
)
UPDATE notify_delivery d SET receipt = 'failed', external_id = coalesce(nullif(d.external_id, ''), %(external_id)s)
FROM held WHERE d.id = held.id RETURNING d.id, held.status, held.cancel_requested
"""


def _failed(
    connection: Connection, delivery_ids: list[UUID], provider: str, receipt: Receipt, now: datetime, *, is_final: bool
) -> None:
    changed: dict[UUID, Reason] = {}
    final_ids: set[UUID] = set()
    parameters = {"ids": delivery_ids, "external_id": receipt.external_id[:200]}
    for row_id, status, requested in connection.execute(_FAILED, parameters).fetchall():
        cancel_requested = reason_from_json(requested)
        changed[row_id] = cancel_requested if status == DeliveryStatus.SENDING else NO_REASON
        if is_final or (cancel_requested and status == DeliveryStatus.SENT):
            # Someone has responded since: do not page through another provider.
            final_ids.add(row_id)
    if not changed:
        return
    results.end(connection, delivery_ids)
    send_failure = AttemptFailed(receipt.failure, receipt.reason)
    failed_deliveries = [
        replace(due, problem=send_failure.error) if due.id in final_ids else due
        for due in claim.facts(connection, sorted(changed))
    ]
    outcomes = results.outcomes_of(
        connection,
        [results.DeliveryFailure(due, provider, send_failure, now) for due in failed_deliveries],
        changed,
        lambda due: pool.in_order(connection, due.channel, due.address),
        lambda _due: 0.0,
    )
    results.write_outcomes(connection, outcomes)
    retried = [outcome.failure.due.id for outcome in outcomes if outcome.status == DeliveryStatus.QUEUED]
    if retried:
        # A retry is a new message without a receipt, for which the user's next contact method does not wait.
        connection.execute("UPDATE notify_delivery SET receipt = '', external_id = '' WHERE id = ANY(%s)", (retried,))
        results.start_next_method(connection, retried, page_planner.METHOD_FAILED(), now)
    if receipt.failure in FAULTS:
        health.record_outcomes(connection, [health.HealthUpdate(provider, now, send_failure.error)])


def record_bounce(
    connection: Connection, notification: UUID, user_id: int, server_message: str, now: datetime
) -> Reason | None:
    """Records a bounced mail to a user, which no other provider can fix. Returns the recorded reason, or None if no
    mail of that notification had been sent to that user.
    """
    row = database.row(
        connection,
        "SELECT provider_name, address FROM notify_delivery WHERE notification_id = %s AND user_id = %s "
        "AND channel = 'email' AND status IN ('sending', 'sent') ORDER BY id DESC LIMIT 1",
        (notification, user_id),
    )
    if row is None:
        return None
    error = redact_address(server_message, "email", row["address"]).rstrip(".")
    reason = page_planner.BOUNCED(error=error)
    receipt = Receipt(ReceiptState.FAILED, str(notification), "", reason, FailureKind.NO_SUCH_ADDRESS)
    apply_receipt(connection, row["provider_name"], receipt, now, is_final=True)
    return reason


_APPEND = f"""
UPDATE notify_delivery d SET reason = {claim.joined_reason("d.reason", "%(reason)s")}
WHERE d.id IN (SELECT id FROM notify_delivery WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE)
"""


_UNANSWERED_TEST = """
SELECT d.id, d.notification_id FROM notify_delivery d JOIN notify_notification n ON n.id = d.notification_id
WHERE n.user_id = %(user)s AND n.id >= %(first)s AND n.purpose = 'test' AND n.data ? 'daily' AND n.channel = %(channel)s
  AND d.provider_name = %(provider)s AND d.status IN ('sending', 'sent', 'delivered') AND d.receipt <> 'answered'
ORDER BY d.id DESC LIMIT 1
"""


def answer_daily_test(connection: Connection, provider: str, channel: str, user_id: int, now: datetime) -> bool:
    """Records that the user wrote back by that provider after its daily test: both ways work. Returns whether a test
    was waiting for that.
    """
    first = ids.first_uuid7(now - timedelta(days=1))
    parameters = {"user": user_id, "first": first, "channel": channel, "provider": provider}
    row = connection.execute(_UNANSWERED_TEST, parameters).fetchone()
    if row is None:
        return False
    apply_receipt(connection, provider, Receipt(ReceiptState.ANSWERED, str(row[1])), now)
    append_reason(connection, [row[0]], page_planner.TEST_ANSWERED(at=now))
    return True


def append_reason(connection: Connection, delivery_ids: Sequence[UUID], reason: Reason) -> None:
    """Appends a reason to that of these deliveries."""
    connection.execute(database.literal(_APPEND), {"reason": reason, "ids": list(delivery_ids)})


# ---------- commands
# Runs a command of a user for the alerts that it names, or that are open for the user.


#: The commands available outside the web interface.
OFFERED = frozenset(
    {
        CommandKind.ACKNOWLEDGE,
        CommandKind.ASSIGN,
        CommandKind.ESCALATE,
        CommandKind.HOLD,
        CommandKind.CLOSE,
        CommandKind.REPLY,
    }
)

#: A command without an alert number does not apply to alerts that paged the user longer ago.
RECENT_WITHIN = timedelta(days=7)

_MAY_NOT_RESPOND = Text("Your role can view alerts but not respond to them. Ask an administrator.")
NOT_OFFERED = Text("This is not possible here. Open the alert.")
NOT_PAGED = Text("You were not paged about alert {alert}. Open it in Tocsin to respond to it.")
ACCOUNT_DISABLED = Text("This account is disabled.")


_NO_ALERT = Text("There is no alert {alert} any more.")
_EMPTY_NOTE = Text("Enter a note.")
_ON_CALL = Text("{group}: {people}")
_NOBODY_ON_CALL = Text("{group}: no one is on call.")
_NO_GROUPS = Text("There are no groups that you can see.")
#: The groups that one answer names.
_MAX_GROUPS = 40

#: Opens the alert that a user asks for in a chat, within the boundary in force. Returns the answer.
ALERT_OPENERS: Hooks[Callable[[Actor, str, CommandChannel, datetime], Reason]] = Hooks()
#: Returns what a viewer may see; None for everything.
BOUNDARIES: Hooks[Callable[[Connection, Viewer], Boundary | None]] = Hooks()


@dataclass(frozen=True, slots=True)
class Responder:
    """A user who responds to an alert."""

    id: int
    name: str
    language: str
    viewer: Viewer

    @property
    def actor(self) -> Actor:
        return Actor(ActorKind.USER, self.name, self.id)


@dataclass(frozen=True, slots=True)
class ResponderResult:
    """The result of a command: on how many alerts it was done, the answer to the user, and the first of the alerts."""

    done_count: int
    answer: Reason
    alert_id: int | None = None


def load_responder(connection: Connection, user_id: int) -> Responder | None:
    """Returns the active user of that id, or None."""
    row = load_with_groups(connection, user_id)
    if row is None:
        return None
    memberships = zip(row["groups"] or (), row["roles"] or (), strict=True)
    group_roles = roles_in_groups(Role(row["role"]), memberships)
    viewer = viewer_from(row["id"], row["role"], row["clients"], group_roles)
    return Responder(row["id"], row["name"], row["language"], viewer)


_USER_BY_ADDRESS = f"""
SELECT m.user_id FROM people_contactmethod m {join_user("m.user_id")} AND u.is_active
WHERE m.channel = ANY(%(channels)s) AND NOT m.awaits_code
  AND lower(m.address COLLATE "C") = lower(%(address)s COLLATE "C")
ORDER BY (SELECT n.id FROM notify_notification n WHERE n.user_id = m.user_id AND n.address = m.address
          AND n.purpose IN ('page', 'still_on_it') AND n.id >= %(since)s
          ORDER BY n.id DESC LIMIT 1) DESC NULLS LAST, m.user_id LIMIT 1
"""


def user_id_by_address(connection: Connection, channels: Sequence[str], address: str, now: datetime) -> int | None:
    """Returns the id of the active user with that address; if several have it, the user who was paged there last. Tests
    do not count: anyone can send one, and the owner of a shared chat could then respond in another user's name.
    """
    parameters = {"channels": list(channels), "address": address, "since": ids.first_uuid7(now - RECENT_WITHIN)}
    row = connection.execute(_USER_BY_ADDRESS, parameters).fetchone()
    return None if row is None else row[0]


# A message that was tried with an unknown outcome may have arrived.
_OPEN = f"""
SELECT DISTINCT a.id FROM notify_notification n {join_alert("n.alert_id", "p")}
{join_alert("CASE WHEN p.status = 'merged' THEN p.merged_into_id ELSE p.id END")}
WHERE n.user_id = %(user)s AND n.id >= %(since)s AND n.purpose IN ('page', 'still_on_it') AND a.status = ANY(%(live)s)
  AND EXISTS (SELECT FROM notify_delivery d WHERE d.notification_id = n.id
              AND (d.status IN ('sending', 'sent', 'delivered') OR (d.attempts > 0 AND NOT d.is_permanent)))
ORDER BY a.id
"""


def open_for(connection: Connection, user_id: int, now: datetime) -> list[int]:
    """Returns the ids of the active alerts that paged this user, in ascending order. A merged alert is replaced by the
    alert it was merged into.
    """
    parameters = {"user": user_id, "since": ids.first_uuid7(now - RECENT_WITHIN), "live": sorted(ACTIVE)}
    return [row[0] for row in connection.execute(_OPEN, parameters).fetchall()]


def was_paged_or_owns(connection: Connection, user_id: int, alert_id: int) -> bool:
    """Returns whether this user was ever paged about the alert or one merged into it, or is assigned to it."""
    row = connection.execute(
        f"SELECT 1 FROM notify_notification n {join_alert('n.alert_id')} WHERE n.user_id = %(user)s "
        "AND (a.id = %(alert)s OR (a.merged_into_id = %(alert)s AND a.status = 'merged')) UNION ALL "
        f"SELECT 1 WHERE {is_about('%(alert)s', 'a.owner_id = %(user)s')} LIMIT 1",
        {"alert": alert_id, "user": user_id},
    ).fetchone()
    return row is not None


def resolve_merged(connection: Connection, alert_id: int) -> int:
    """Returns the alert that the given alert was merged into, else the alert itself."""
    row = connection.execute(database.literal(f"SELECT {resolved_id('%s')}"), (alert_id,)).fetchone()
    return alert_id if row is None or row[0] is None else row[0]


def run_command(
    connection: Connection,
    responder: Responder,
    command: ParsedCommand,
    kind: CommandKind,
    via: CommandChannel,
    now: datetime,
    own_alert_id: int | None = None,
) -> ResponderResult:
    """Runs a command from a text or a mail on the alerts that it names; without a number, on the alert that a mail is
    about (`own_alert_id`), else on the only one that is open for the user.
    """
    number = command.number
    if command.other_numbers and number is not None:
        numbers = [number, *command.other_numbers]
        service.lock_families(connection, numbers)
        singles = (replace(command, number=each, other_numbers=()) for each in numbers)
        results = [run_command(connection, responder, each, kind, via, now, own_alert_id) for each in singles]
        answer = joined(*(result.answer for result in results), separator=" ")
        return ResponderResult(sum(result.done_count for result in results), answer, results[0].alert_id)
    if number is not None and (number == own_alert_id or was_paged_or_owns(connection, responder.id, number)):
        numbers = [number]
    elif number is None and own_alert_id is not None and not command.is_all:
        numbers = [own_alert_id]
    else:
        numbers = open_for(connection, responder.id, now)
        if number is not None:
            if kind is not CommandKind.REPLY or len(numbers) != 1 or own_alert_id is not None:
                return ResponderResult(0, NOT_PAGED(alert=AlertRef(number)))
            # "Reply 5 minutes" refers to the only open alert, not to alert 5.
            command = replace(command, text=f"{number} {command.text}")
        if not numbers:
            return ResponderResult(0, formatting.NONE_OPEN)
        if len(numbers) > 1 and not command.is_all:
            return ResponderResult(0, formatting.ask_which_alert(kind, numbers))
    result = apply_answer(connection, responder, numbers, kind, via, now, command.text)
    return replace(result, alert_id=numbers[0])


def press_button(
    user_id: int, alert_id: int, kind: str, via: CommandChannel, now: datetime, text: str = ""
) -> tuple[ResponderResult, str]:
    """Runs the command of a button in a transaction of its own. Returns the result and the user's language."""

    def press(connection: Connection) -> tuple[ResponderResult, str]:
        responder = load_responder(connection, user_id)
        if responder is None:
            return ResponderResult(0, ACCOUNT_DISABLED()), ""
        if kind not in OFFERED:
            return ResponderResult(0, NOT_OFFERED()), responder.language
        if kind == CommandKind.REPLY and not text.strip():
            return ResponderResult(0, _EMPTY_NOTE()), responder.language
        result = apply_answer(connection, responder, [alert_id], CommandKind(kind), via, now, text)
        # A message that nobody has brought up to date since it was sent shows the state now.
        updates.queue(connection, [alert_id], now)
        return result, responder.language

    return service.run_in_transaction(press)


def apply_answer(
    connection: Connection,
    responder: Responder,
    alert_ids: Sequence[int],
    kind: CommandKind,
    via: CommandChannel,
    now: datetime,
    text: str = "",
    note: Reason = NO_REASON,
) -> ResponderResult:
    """Runs the command on each alert inside the caller's transaction. For a merged alert, runs it on the alert it was
    merged into, and the answer says so. Never raises for what the alerts' state or the user's role does not allow.
    `text` is that of a reply, `note` follows an acknowledgement on the timeline.
    """
    if len(alert_ids) > 1:
        service.lock_families(connection, alert_ids)
    command = _command(responder, kind, via, text, note, now)
    results = [_apply_to_one(connection, responder, alert_id, command, now) for alert_id in alert_ids]
    if len(results) == 1:
        return results[0]
    done_count = sum(result.done_count for result in results)
    return ResponderResult(done_count, formatting.bulk_result(kind, done_count, len(results) - done_count))


def _apply_to_one(
    connection: Connection,
    responder: Responder,
    alert_id: int,
    command: Command,
    now: datetime,
) -> ResponderResult:
    target_id = resolve_merged(connection, alert_id)
    target = _find_answerable(connection, responder.viewer, target_id)
    if target is None:
        is_gone = target_id not in store.load(connection, [target_id])
        return ResponderResult(0, _NO_ALERT(alert=AlertRef(alert_id)) if is_gone else _MAY_NOT_RESPOND())
    is_merged = target_id != alert_id
    merge_note = IS_MERGED(alert=AlertRef(alert_id), into=AlertRef(target_id)) if is_merged else NO_REASON
    try:
        outcome = service.apply_command_within(connection, target, command, now)
    except Rejected as rejected:
        return ResponderResult(0, joined(merge_note, rejected.reason, separator=" "))
    return ResponderResult(1, joined(merge_note, outcome.answer, separator=" "))


def _find_answerable(connection: Connection, viewer: Viewer, alert_id: int) -> FoundAlert | None:
    """Returns the alert if there is one that the user sees and may act on."""
    row = connection.execute(
        f"SELECT a.group_ids || i.group_id FROM {WITH_INTEGRATION} WHERE a.id = %s", (alert_id,)
    ).fetchone()
    if row is None:
        return None
    group_ids = frozenset(row[0]) - {None}
    if not viewer.may_respond(group_ids):
        return None
    return service.find_alert_on(connection, alert_id, _limits(connection, viewer))


def _limits(connection: Connection, viewer: Viewer) -> list[Boundary]:
    limits = (boundary_of(connection, viewer) for boundary_of in BOUNDARIES.of())
    return [limit for limit in limits if limit is not None]


def answer_request(
    connection: Connection, responder: Responder, request: ChatRequest, via: CommandChannel, now: datetime
) -> Reason:
    """Says who is on call in the groups that the user sees, or opens the alert that the user asks for."""
    limit = next(iter(_limits(connection, responder.viewer)), None)
    with boundary.limited_to(limit):
        if request.alert_text:
            if not responder.viewer.may_respond(responder.viewer.group_roles):
                return _MAY_NOT_RESPOND()
            subject = formatting.one_line(request.alert_text)
            answers = [open_alert(responder.actor, subject, via, now) for open_alert in ALERT_OPENERS.of()]
            return joined(*answers, separator=" ")
        groups = dict(Group.objects.values_list("pk", "name"))
    people = loader.on_call(connection, groups, now)
    lines = [
        _ON_CALL(group=groups[number], people=tuple(Person(one.name, one.user_id) for one in people[number]))
        if people[number]
        else _NOBODY_ON_CALL(group=groups[number])
        for number in sorted(people, key=lambda number: groups[number].casefold())
    ]
    return joined(*lines[:_MAX_GROUPS], separator="\n") if lines else _NO_GROUPS()


def _command(
    responder: Responder, kind: CommandKind, via: CommandChannel, text: str, note: Reason, now: datetime
) -> Command:
    match kind:
        case CommandKind.HOLD:
            span = text if text in dict(SNOOZE_CHOICES) else SNOOZE_CHOICES[0][0]
            return Hold(actor=responder.actor, via=via, until=now + parse_duration(span, "text"))
        case CommandKind.ASSIGN:
            return Assign(actor=responder.actor, via=via, name=responder.name, user_id=responder.id)
        case CommandKind.REPLY:
            return Reply(actor=responder.actor, via=via, text=text.strip()[: formatting.MAX_REPLY_CHARS])
        case _:
            return COMMAND_CLASSES[kind](actor=responder.actor, via=via, note=note)  # type: ignore[return-value] # the others need nothing else


# ---------- voice call
# Continues a phone call: what it says after pick-up, and what each key does. The script is built from the alert's
# current state.


#: How far back a call is matched by the phone number alone, to continue it or to repeat it when the user calls back.
RECALL_WINDOW = timedelta(hours=1)

_ACTIVE_ALERT_PURPOSES = (Purpose.PAGE, Purpose.ACK_REMINDER)


def continue_call(provider: str, call_state: CallState, now: datetime) -> CallPrompt:
    """Returns the next prompt of the call. Records a pick-up, a key press or an answering machine, and carries out the
    command of a key, in one transaction.
    """
    return service.run_in_transaction(lambda connection: _continue(connection, provider, call_state, now))


def _continue(connection: Connection, provider: str, call_state: CallState, now: datetime) -> CallPrompt:
    delivery_ids = _find_deliveries_of_call(connection, provider, call_state, now)
    # An alert merged in the meantime is announced, and acted on, as the alert it was merged into.
    deliveries = claim.facts(connection, delivery_ids, resolve_merged=True)
    if call_state.is_machine and not call_state.digits:
        _record_receipt(connection, provider, call_state, deliveries, ReceiptState.NOT_REACHED, now)
        current = _current(deliveries)
        # A code would stay in a mailbox that others may hear.
        if not current or current[0].data.get("sealed"):
            return CallPrompt()
        return _script(current, render.content_of(connection, "voice"), now).without_keys()
    if call_state.digits:
        service.lock_families(connection, [due.alert.id for due in deliveries if due.alert])
    state = ReceiptState.ANSWERED if call_state.digits else ReceiptState.DELIVERED
    _record_receipt(connection, provider, call_state, deliveries, state, now)
    language = deliveries[0].language if deliveries else ""
    if not deliveries:
        return _last_words(spoken_phrase("phone call", "You have no open alerts.", language), language)
    if deliveries[0].purpose is Purpose.TEST and call_state.digits and not deliveries[0].data.get("sealed"):
        # The page of the phone test shows the key.
        key = call_state.digits[:1]
        append_reason(connection, delivery_ids, KEY_PRESSED(key=key))
        if deliveries[0].data.get("daily"):
            append_reason(connection, delivery_ids, page_planner.TEST_ANSWERED(at=now))
        database.notify(connection, "outbox")
        pressed = spoken_phrase("phone call", "You pressed {key}. This phone works.", language, key=key)
        if key not in REPEAT_KEYS:
            return _last_words(pressed, language)
        script = _script(deliveries, render.content_of(connection, "voice"), now)
        return CallPrompt(pressed, script, language=voice_of(language))
    current = _current(deliveries)
    if not current:
        alert = deliveries[0].alert
        loaded = store.load(connection, [alert.id])[alert.id] if alert is not None else None
        state_reason = NO_REASON if loaded is None else lifecycle.describe_state(loaded, now)
        return _last_words(localize(state_reason, language), language)
    script, voice = _script(current, render.content_of(connection, "voice"), now), voice_of(language)
    match formatting.interpret_key(call_state.digits, call_state.pending_digit, script.keys):
        case Key.REPEAT:
            return CallPrompt(script=script, language=voice)
        case Key.LIST:
            return CallPrompt(script.listing, replace(script, greeting="", message=""), language=voice)
        case Key.INVALID:
            append_reason(connection, delivery_ids, KEY_PRESSED(key=call_state.digits[:20]))
            return CallPrompt(spoken_phrase("phone call", "Invalid key.", language), script, language=voice)
        case Key.CONFIRM:
            confirm = spoken_phrase("phone call", "Press 9 again to close.", language)
            return CallPrompt(confirm, pending_digit=call_state.digits, language=voice)
        case command:
            return _last_words(_act(connection, current, command, language, now), language)


def _last_words(text: str, language: str) -> CallPrompt:
    goodbye = spoken_phrase("phone call", "Goodbye.", language)
    return CallPrompt(f"{text} {goodbye}", language=voice_of(language))


def _current(deliveries: list[DueDelivery]) -> list[DueDelivery]:
    """Returns the deliveries that are still relevant. Alerts that were merged into one are announced once."""
    relevant: dict[object, DueDelivery] = {}
    for due in deliveries:
        if due.purpose not in _ACTIVE_ALERT_PURPOSES or (due.alert and due.alert.status in ACTIVE):
            relevant.setdefault(due.alert.id if due.alert else due.id, due)
    return list(relevant.values())


def _find_deliveries_of_call(connection: Connection, provider: str, call_state: CallState, now: datetime) -> list[UUID]:
    delivery_ids = find_deliveries(connection, provider, call_state.key, call_state.external_id, now)
    if delivery_ids or not call_state.number:
        return delivery_ids
    last = connection.execute(
        "SELECT notification_id FROM notify_delivery WHERE id >= %s AND channel = 'voice' AND address = %s "
        "AND provider_name = %s AND (status IN ('sending', 'sent', 'delivered') "
        "OR (attempts > 0 AND NOT is_permanent)) ORDER BY id DESC LIMIT 1",
        (ids.first_uuid7(now - RECALL_WINDOW), call_state.number, provider),
    ).fetchone()
    return find_deliveries(connection, provider, str(last[0]), "", now) if last else []


def _record_receipt(
    connection: Connection,
    provider: str,
    call_state: CallState,
    deliveries: list[DueDelivery],
    state: ReceiptState,
    now: datetime,
) -> None:
    if deliveries:
        reason = MACHINE_ANSWERED() if state is ReceiptState.NOT_REACHED else NO_REASON
        key = call_state.key or str(deliveries[0].notification_id)
        apply_receipt(connection, provider, Receipt(state, key, call_state.external_id, reason), now)


def _script(current: list[DueDelivery], content_level: ContentLevel, now: datetime) -> CallScript:
    voice_channel = channel("voice")
    script = render.compose(bundle_of(current), voice_channel, now, can_reply=True, content_level=content_level).script
    assert script is not None
    # A group's phone is not answered by a known user, so it offers no commands.
    return script if current[0].user_id is not None else replace(script, keys=REPEAT_KEYS, menu="")


def _act(connection: Connection, current: list[DueDelivery], command: CommandKind, language: str, now: datetime) -> str:
    user_id = current[0].user_id
    assert user_id is not None
    responder = load_responder(connection, user_id)
    if responder is None:
        return spoken_phrase("phone call", "You have no open alerts.", language)
    numbers = [due.alert.id for due in current if due.alert is not None]
    result = apply_answer(connection, responder, numbers, command, CommandChannel.VOICE, now)
    if len(numbers) > 1:
        return spoken_phrase("phone call", "Done for {number} alerts.", language, number=result.done_count)
    match command if result.done_count else None:
        case CommandKind.ACKNOWLEDGE:
            return spoken_phrase("phone call", "You acknowledged alert {id}.", language, id=numbers[0])
        case CommandKind.ASSIGN:
            return spoken_phrase("phone call", "Alert {id} is assigned to you.", language, id=numbers[0])
        case CommandKind.ESCALATE:
            return spoken_phrase("phone call", "You escalated alert {id}.", language, id=numbers[0])
        case CommandKind.CLOSE:
            return spoken_phrase("phone call", "Alert {id} is closed.", language, id=numbers[0])
        case _:
            return localize(result.answer, responder.language)
