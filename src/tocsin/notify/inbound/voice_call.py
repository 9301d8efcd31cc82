"""Continues a phone call: what it says after pick-up, and what each key does. The script is built from the alert's
current state.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.alerts import lifecycle, service
from tocsin.alerts.states import ACTIVE, CommandChannel, CommandKind
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.inbound import delivery_receipts, dtmf, responder_actions
from tocsin.notify.interfaces import CallScript
from tocsin.notify.registry import channel
from tocsin.notify.rules.bundling import DeliveryBundle
from tocsin.notify.rules.pre_send_check import DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text import render
from tocsin.notify.text.localization import localize
from tocsin.notify.text.redaction import ContentLevel
from tocsin.notify.text.voice import HEAR_KEYS
from tocsin.notify.text.voice_phrases import VoicePhrases, words
from tocsin.notify.webhooks import CallPrompt, CallState, Receipt, ReceiptState

#: How far back a call is matched by the phone number alone, to continue it or to repeat it when the user calls back.
RECALL_WINDOW = timedelta(hours=1)

_ABOUT_LIVE = (Purpose.PAGE, Purpose.STILL_ON_IT)
MACHINE = "A machine answered the call."


def continue_call(provider: str, turn: CallState, now: datetime) -> CallPrompt:
    """Returns the next prompt of the call. Records a pick-up, a key press or an answering machine."""
    with database.transaction() as connection:
        found = _deliveries(connection, provider, turn, now)
        # An alert merged in the meantime is announced, and acted on, as the alert it was merged into.
        heard = delivery_queries.facts(connection, found, meant=True)
        if turn.is_machine and not turn.digits:
            _note(connection, provider, turn, heard, ReceiptState.NOT_REACHED, now)
            return CallPrompt()
        state = ReceiptState.ANSWERED if turn.digits else ReceiptState.DELIVERED
        _note(connection, provider, turn, heard, state, now)
        content = render.content_of(connection, "voice")
    if not heard:
        return CallPrompt(f"{words('').nothing} {words('').goodbye}")
    speaks = words(heard[0].language)
    if heard[0].purpose is Purpose.TEST and turn.digits and not heard[0].data.get("sealed"):
        return _tested(found, turn, speaks)
    current = _current(heard)
    if not current:
        return CallPrompt(
            f"{localize(_how_it_stands(heard[0], now), heard[0].language)} {speaks.goodbye}", language=speaks.code
        )
    script = _script(current, content, now)
    match dtmf.interpret_key(turn.digits, turn.asked, script.keys):
        case dtmf.RepeatPrompt():
            return CallPrompt(script=script, language=speaks.code)
        case dtmf.InvalidKey():
            return CallPrompt(speaks.wrong_key, script, language=speaks.code)
        case dtmf.ConfirmKey(digit):
            return CallPrompt(speaks.sure, asked=digit, language=speaks.code)
        case dtmf.RunCommand(command):
            return CallPrompt(f"{_act(current, command, speaks, now)} {speaks.goodbye}", language=speaks.code)


def _current(heard: list[DueDelivery]) -> list[DueDelivery]:
    """Returns the deliveries that are still relevant. Alerts that were merged into one are announced once."""
    found: dict[object, DueDelivery] = {}
    for due in heard:
        if due.purpose not in _ABOUT_LIVE or (due.alert and due.alert.status in ACTIVE):
            found.setdefault(due.alert.id if due.alert else due.id, due)
    return list(found.values())


def _deliveries(connection: Connection, provider: str, turn: CallState, now: datetime) -> list[UUID]:
    found = delivery_receipts.deliveries(connection, provider, turn.key, turn.external_id, now)
    if found or not turn.number:
        return found
    last = connection.execute(
        "SELECT notification_id FROM notify_delivery WHERE id >= %s AND channel = 'voice' AND address = %s "
        "AND provider_name = %s AND (status IN ('sending', 'sent', 'delivered') "
        "OR (attempts > 0 AND NOT is_permanent)) ORDER BY id DESC LIMIT 1",
        (ids.first_uuid7(now - RECALL_WINDOW), turn.number, provider),
    ).fetchone()
    return delivery_receipts.deliveries(connection, provider, str(last[0]), "", now) if last else []


def _note(
    connection: Connection, provider: str, turn: CallState, heard: list[DueDelivery], state: ReceiptState, now: datetime
) -> None:
    if heard:
        reason = MACHINE if state is ReceiptState.NOT_REACHED else ""
        key = turn.key or str(heard[0].notification_id)
        delivery_receipts.apply(connection, provider, Receipt(state, key, turn.external_id, reason), now)


def _tested(found: list[UUID], turn: CallState, speaks: VoicePhrases) -> CallPrompt:
    """Records the pressed key: the page of the phone test shows it."""
    with database.transaction() as connection:
        delivery_receipts.append_reason(connection, found, f"The key {turn.digits[:1]} was pressed.")
        database.notify(connection, "outbox")
    said = speaks.pressed.format(key=turn.digits[:1])
    return CallPrompt(f"{said} {speaks.goodbye}", language=speaks.code)


def _script(current: list[DueDelivery], content: ContentLevel, now: datetime) -> CallScript:
    way = channel("voice")
    bundle = DeliveryBundle(tuple(current), named=way.bundle_limit if len(current) > way.bundle_limit else 0)
    made = render.compose(bundle, way, now, can_reply=True, content=content).script
    assert made is not None
    # A group's phone is not answered by a known user, so it offers no commands.
    return made if current[0].user_id is not None else replace(made, keys=HEAR_KEYS, menu="")


def _act(current: list[DueDelivery], command: CommandKind, speaks: VoicePhrases, now: datetime) -> str:
    user_id = current[0].user_id
    assert user_id is not None
    with database.transaction() as connection:
        who = responder_actions.load_responder(connection, user_id)
    if who is None:
        return speaks.nothing
    numbers = [due.alert.id for due in current if due.alert is not None]
    answers = [responder_actions.apply_answer(who, number, command, CommandChannel.VOICE, now) for number in numbers]
    if len(answers) > 1:
        return speaks.several_done.format(number=sum(answer.is_done for answer in answers))
    return (
        speaks.done[command].format(id=numbers[0])
        if answers[0].is_done
        else localize(answers[0].sentence, who.language)
    )


def _how_it_stands(due: DueDelivery, now: datetime) -> str:
    return lifecycle.describe_state(service.state_of(due.alert.id), now) if due.alert else ""
