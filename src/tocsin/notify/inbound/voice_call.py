"""Continues a phone call: what it says after pick-up, and what each key does. The script is built from the alert's
current state.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.alerts import lifecycle, service, store
from tocsin.alerts.states import ACTIVE, CommandChannel, CommandKind
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.reasons import NO_REASON, Reason
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.inbound import delivery_receipts, dtmf, responder_actions
from tocsin.notify.interfaces import CallScript
from tocsin.notify.registry import channel
from tocsin.notify.rules.bundling import DeliveryBundle
from tocsin.notify.rules.delivery_reasons import KEY_PRESSED, MACHINE_ANSWERED
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text import render
from tocsin.notify.text.phrases import localize
from tocsin.notify.text.redaction import ContentLevel
from tocsin.notify.text.voice import REPEAT_KEYS
from tocsin.notify.text.voice_phrases import VoicePhrases, words
from tocsin.notify.webhooks import CallPrompt, CallState, Receipt, ReceiptState

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
    deliveries = delivery_queries.facts(connection, delivery_ids, resolve_merged=True)
    if call_state.is_machine and not call_state.digits:
        _record_receipt(connection, provider, call_state, deliveries, ReceiptState.NOT_REACHED, now)
        return CallPrompt()
    if call_state.digits:
        service.lock_families(connection, [due.alert.id for due in deliveries if due.alert])
    state = ReceiptState.ANSWERED if call_state.digits else ReceiptState.DELIVERED
    _record_receipt(connection, provider, call_state, deliveries, state, now)
    if not deliveries:
        return CallPrompt(f"{words('').no_alert} {words('').goodbye}")
    phrases = words(deliveries[0].language)
    if deliveries[0].purpose is Purpose.TEST and call_state.digits and not deliveries[0].data.get("sealed"):
        return _record_test_key(connection, delivery_ids, call_state, phrases)
    current = _current(deliveries)
    if not current:
        state_reason = _describe_alert_state(connection, deliveries[0], now)
        return CallPrompt(f"{localize(state_reason, deliveries[0].language)} {phrases.goodbye}", language=phrases.code)
    script = _script(current, render.content_of(connection, "voice"), now)
    match dtmf.interpret_key(call_state.digits, call_state.pending_digit, script.keys):
        case dtmf.RepeatPrompt():
            return CallPrompt(script=script, language=phrases.code)
        case dtmf.InvalidDigit():
            return CallPrompt(phrases.wrong_key, script, language=phrases.code)
        case dtmf.ConfirmKey(digit):
            return CallPrompt(phrases.confirm_close, pending_digit=digit, language=phrases.code)
        case dtmf.RunCommand(command):
            answer = _act(connection, current, command, phrases, now)
            return CallPrompt(f"{answer} {phrases.goodbye}", language=phrases.code)


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


def _record_test_key(
    connection: Connection, delivery_ids: list[UUID], call_state: CallState, phrases: VoicePhrases
) -> CallPrompt:
    """Records the pressed key: the page of the phone test shows it."""
    delivery_receipts.append_reason(connection, delivery_ids, KEY_PRESSED(key=call_state.digits[:1]))
    database.notify(connection, "outbox")
    sentence = phrases.pressed.format(key=call_state.digits[:1])
    return CallPrompt(f"{sentence} {phrases.goodbye}", language=phrases.code)


def _script(current: list[DueDelivery], content_level: ContentLevel, now: datetime) -> CallScript:
    voice_channel = channel("voice")
    bundle = DeliveryBundle(
        tuple(current), named_count=voice_channel.bundle_limit if len(current) > voice_channel.bundle_limit else 0
    )
    script = render.compose(bundle, voice_channel, now, can_reply=True, content_level=content_level).script
    assert script is not None
    # A group's phone is not answered by a known user, so it offers no commands.
    return script if current[0].user_id is not None else replace(script, keys=REPEAT_KEYS, menu="")


def _act(
    connection: Connection, current: list[DueDelivery], command: CommandKind, phrases: VoicePhrases, now: datetime
) -> str:
    user_id = current[0].user_id
    assert user_id is not None
    responder = responder_actions.load_responder(connection, user_id)
    if responder is None:
        return phrases.no_alert
    numbers = [due.alert.id for due in current if due.alert is not None]
    result = responder_actions.apply_answer(connection, responder, numbers, command, CommandChannel.VOICE, now)
    if len(numbers) > 1:
        return phrases.several_done.format(number=result.done_count)
    if result.done_count:
        return phrases.done[command].format(id=numbers[0])
    return localize(result.answer, responder.language)


def _describe_alert_state(connection: Connection, due: DueDelivery, now: datetime) -> Reason:
    if due.alert is None:
        return NO_REASON
    return lifecycle.describe_state(store.load(connection, [due.alert.id])[due.alert.id], now)
