"""Runs responders' commands from outside the web interface (texts, phone keys, chat buttons, mails): identifies the
user, checks the permission and runs the command. The result always has an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.access.boundary import Boundary
from tocsin.access.roles import Role
from tocsin.alerts import lifecycle, service, store
from tocsin.alerts.commands import COMMAND_CLASSES, Actor, Assign, Command, Reply
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.sql import WITH_INTEGRATION, is_about, join_alert, resolved_id
from tocsin.alerts.states import ACTIVE, IS_MERGED, ActorKind, CommandChannel, CommandKind
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Rejected
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import NO_REASON, AlertRef, Reason, Text, joined
from tocsin.notify.channels.phone import REPEAT_KEYS
from tocsin.notify.dispatch import claim
from tocsin.notify.inbound import delivery_receipts
from tocsin.notify.interfaces import CallPrompt, CallScript, CallState, Receipt, ReceiptState
from tocsin.notify.registry import channel
from tocsin.notify.rules.delivery_reasons import KEY_PRESSED, MACHINE_ANSWERED
from tocsin.notify.rules.pre_send_check import DueDelivery, bundle_of
from tocsin.notify.states import Purpose
from tocsin.notify.text import command_parser, render
from tocsin.notify.text.command_parser import Key, ParsedCommand
from tocsin.notify.text.formatting import localize, spoken_phrase, voice_of
from tocsin.notify.text.render import ContentLevel
from tocsin.people.permissions import Viewer, roles_in_groups, viewer_from
from tocsin.people.sql import join_user, load_with_groups

#: The commands available outside the web interface.
OFFERED = frozenset(
    {CommandKind.ACKNOWLEDGE, CommandKind.ASSIGN, CommandKind.ESCALATE, CommandKind.CLOSE, CommandKind.REPLY}
)

#: A command without an alert number does not apply to alerts that paged the user longer ago.
RECENT_WITHIN = timedelta(days=7)

_MAY_NOT_RESPOND = Text("Your role can view alerts but not respond to them. Ask an administrator.")
NOT_OFFERED = Text("This is not possible here. Open the alert.")
NOT_PAGED = Text("You were not paged about alert {alert}. Open it in Tocsin to respond to it.")
ACCOUNT_DISABLED = Text("This account is disabled.")


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
            return ResponderResult(0, command_parser.NONE_OPEN)
        if len(numbers) > 1 and not command.is_all:
            return ResponderResult(0, command_parser.ask_which_alert(kind, numbers))
    result = apply_answer(connection, responder, numbers, kind, via, now, command.text)
    return replace(result, alert_id=numbers[0])


def press_button(
    user_id: int, alert_id: int, kind: str, via: CommandChannel, now: datetime
) -> tuple[ResponderResult, str]:
    """Runs the command of a button in a transaction of its own. Returns the result and the user's language."""

    def press(connection: Connection) -> tuple[ResponderResult, str]:
        responder = load_responder(connection, user_id)
        if responder is None:
            return ResponderResult(0, ACCOUNT_DISABLED()), ""
        if kind not in OFFERED:
            return ResponderResult(0, NOT_OFFERED()), responder.language
        return apply_answer(connection, responder, [alert_id], CommandKind(kind), via, now), responder.language

    return service.run_in_transaction(press)


def apply_answer(
    connection: Connection,
    responder: Responder,
    alert_ids: Sequence[int],
    kind: CommandKind,
    via: CommandChannel,
    now: datetime,
    text: str = "",
) -> ResponderResult:
    """Runs the command on each alert inside the caller's transaction. For a merged alert, runs it on the alert it was
    merged into, and the answer says so. Never raises for what the alerts' state or the user's role does not allow.
    """
    if len(alert_ids) > 1:
        service.lock_families(connection, alert_ids)
    results = [_apply_to_one(connection, responder, alert_id, kind, via, now, text) for alert_id in alert_ids]
    if len(results) == 1:
        return results[0]
    done_count = sum(result.done_count for result in results)
    return ResponderResult(done_count, command_parser.bulk_result(kind, done_count, len(results) - done_count))


def _apply_to_one(
    connection: Connection,
    responder: Responder,
    alert_id: int,
    kind: CommandKind,
    via: CommandChannel,
    now: datetime,
    text: str,
) -> ResponderResult:
    target_id = resolve_merged(connection, alert_id)
    target = _find_answerable(connection, responder.viewer, target_id)
    if target is None:
        return ResponderResult(0, _MAY_NOT_RESPOND())
    is_merged = target_id != alert_id
    merge_note = IS_MERGED(alert=AlertRef(alert_id), into=AlertRef(target_id)) if is_merged else NO_REASON
    try:
        outcome = service.apply_command_within(connection, target, _command(responder, kind, via, text), now)
    except Rejected as rejected:
        return ResponderResult(0, joined(merge_note, rejected.reason, separator=" "))
    return ResponderResult(1, joined(merge_note, outcome.answer, separator=" "))


def _find_answerable(connection: Connection, viewer: Viewer, alert_id: int) -> FoundAlert | None:
    """Returns the alert if the user sees it and may act on it."""
    row = connection.execute(
        f"SELECT a.group_ids || i.group_id FROM {WITH_INTEGRATION} WHERE a.id = %s", (alert_id,)
    ).fetchone()
    group_ids = frozenset(row[0]) - {None} if row is not None else frozenset()
    if not viewer.may_respond(group_ids):
        return None
    limits = (boundary_of(connection, viewer) for boundary_of in BOUNDARIES.of())
    return service.find_alert_on(connection, alert_id, [limit for limit in limits if limit is not None])


def _command(responder: Responder, kind: CommandKind, via: CommandChannel, text: str) -> Command:
    match kind:
        case CommandKind.ASSIGN:
            return Assign(actor=responder.actor, via=via, name=responder.name, user_id=responder.id)
        case CommandKind.REPLY:
            return Reply(actor=responder.actor, via=via, text=text)
        case _:
            return COMMAND_CLASSES[kind](actor=responder.actor, via=via)  # type: ignore[return-value] # the others need nothing else


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
    delivery_ids = _deliveries(connection, provider, call_state, now)
    # An alert merged in the meantime is announced, and acted on, as the alert it was merged into.
    deliveries = claim.facts(connection, delivery_ids, resolve_merged=True)
    if call_state.is_machine and not call_state.digits:
        _record_receipt(connection, provider, call_state, deliveries, ReceiptState.NOT_REACHED, now)
        return CallPrompt()
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
        delivery_receipts.append_reason(connection, delivery_ids, KEY_PRESSED(key=key))
        database.notify(connection, "outbox")
        pressed = spoken_phrase("phone call", "You pressed {key}. This phone works.", language, key=key)
        return _last_words(pressed, language)
    current = _current(deliveries)
    if not current:
        alert = deliveries[0].alert
        loaded = store.load(connection, [alert.id])[alert.id] if alert is not None else None
        state_reason = NO_REASON if loaded is None else lifecycle.describe_state(loaded, now)
        return _last_words(localize(state_reason, language), language)
    script, voice = _script(current, render.content_of(connection, "voice"), now), voice_of(language)
    match command_parser.interpret_key(call_state.digits, call_state.pending_digit, script.keys):
        case Key.REPEAT:
            return CallPrompt(script=script, language=voice)
        case Key.INVALID:
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


def _deliveries(connection: Connection, provider: str, call_state: CallState, now: datetime) -> list[UUID]:
    delivery_ids = delivery_receipts.deliveries(connection, provider, call_state.key, call_state.external_id, now)
    if delivery_ids or not call_state.number:
        return delivery_ids
    last = connection.execute(
        "SELECT notification_id FROM notify_delivery WHERE id >= %s AND channel = 'voice' AND address = %s "
        "AND provider_name = %s AND (status IN ('sending', 'sent', 'delivered') "
        "OR (attempts > 0 AND NOT is_permanent)) ORDER BY id DESC LIMIT 1",
        (ids.first_uuid7(now - RECALL_WINDOW), call_state.number, provider),
    ).fetchone()
    return delivery_receipts.deliveries(connection, provider, str(last[0]), "", now) if last else []


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
        delivery_receipts.apply(connection, provider, Receipt(state, key, call_state.external_id, reason), now)


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
