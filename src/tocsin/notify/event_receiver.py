"""Turns a provider's events into receipts, opt-outs and alert commands. Contains nothing specific to a vendor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts import service
from tocsin.alerts.states import CommandChannel, CommandKind
from tocsin.alerts.store import load_alerts
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.hooks import Hooks
from tocsin.core.validation.inputs import sanitize
from tocsin.identity import grants
from tocsin.notify.channels.phone import for_phones
from tocsin.notify.inbound import mail_replies, receipts, responder_actions
from tocsin.notify.inbound.responder_actions import Responder
from tocsin.notify.interfaces import (
    CHANNELS,
    ButtonResult,
    CallPrompt,
    CallState,
    CallStep,
    ChatPlace,
    HotlineEvent,
    InboundText,
    Receipt,
)
from tocsin.notify.text import formatting, render
from tocsin.notify.text.formatting import ParsedCommand, Word, localize, phrase
from tocsin.people import addresses

#: How long processed callbacks are kept for deduplication. Vendors retry for a few hours at most.
_RETENTION = timedelta(days=2)

#: Continues a call to a hotline, given the provider's name, the event and the time. `calls` registers it.
HOTLINES: Hooks[Callable[[str, HotlineEvent, datetime], Sequence[CallStep]]] = Hooks()


@dataclass(frozen=True, slots=True)
class ProviderEventReceiver:
    """Handles the events of one provider at one moment. Implements `interfaces.EventReceiver`."""

    provider: str
    now: datetime
    #: The only user whose messages are accepted, where the provider has authenticated the sender; None accepts any user
    #: who has the sender's address.
    authenticated_user_id: int | None = None

    def handle_receipt(self, receipt: Receipt) -> None:
        receipt = _storable(receipt)

        def apply() -> None:
            with database.transaction() as connection:
                responder_actions.apply_receipt(connection, self.provider, receipt, self.now)

        database.retry_once(apply)

    def handle_text(self, message: InboundText) -> str:
        message = _storable(message)
        # The command and its answer are committed together: a repeat of the callback gets the answer or starts over.
        return service.run_in_transaction(lambda connection: self._answer_once(connection, message))

    def handle_mail(self, raw: bytes) -> str:
        return str(mail_replies.process_mail(self.provider, raw, self.now).reason)

    def handle_call(self, call_state: CallState) -> CallPrompt:
        return responder_actions.continue_call(self.provider, _storable(call_state), self.now)

    def handle_hotline(self, event: HotlineEvent) -> Sequence[CallStep]:
        return [step for handle in HOTLINES.of() for step in handle(self.provider, _storable(event), self.now)]

    def handle_button(self, user_id: int, alert_id: int, command: str, via: str, text: str = "") -> ButtonResult:
        result, language = responder_actions.press_button(
            user_id, alert_id, command, CommandChannel(via), self.now, sanitize(text)
        )
        return ButtonResult(str(result.answer), localize(result.answer, language), language)

    def hasten_poll(self, external_id: str) -> None:
        with database.transaction() as connection:
            receipts.hasten(connection, self.provider, sanitize(external_id), self.now)

    def find_user_id(self, channel: str, address: str) -> int | None:
        with database.transaction() as connection:
            return responder_actions.user_id_by_address(connection, (channel,), sanitize(address), self.now)

    def find_directory_user_id(self, tenant: str, object_id: str) -> int | None:
        with database.transaction() as connection:
            return grants.user_id_by_object_id(connection, sanitize(tenant), sanitize(object_id))

    def save_place(self, bot: str, address: str, place: ChatPlace | None) -> None:
        key = (sanitize(bot), sanitize(address))
        with database.transaction() as connection:
            if place is None:
                connection.execute("DELETE FROM notify_chatconversation WHERE bot = %s AND address = %s", key)
                return
            connection.execute(
                "INSERT INTO notify_chatconversation (bot, address, service_url, conversation, seen_at) "
                "VALUES (%s, %s, %s, %s, %s) ON CONFLICT (bot, address) DO UPDATE SET "
                "service_url = excluded.service_url, conversation = excluded.conversation, seen_at = excluded.seen_at",
                (*key, sanitize(place.service_url), sanitize(place.conversation), self.now),
            )

    def _answer_once(self, connection: Connection, message: InboundText) -> str:
        """Carries out a text and stores its answer. Returns the stored answer for a repeated text."""
        responder = self._find_sender(connection, message)
        # An unknown sender gets no reply, so that a stranger cannot find out which addresses are known.
        if responder is None:
            return ""
        key = hashlib.sha256(f"{self.provider}\0{message.external_id}".encode()).hexdigest()
        if message.external_id and (stored_answer := self._claim(connection, key)) is not None:
            return stored_answer
        answer = self._answer(connection, responder, message)
        if CHANNELS[message.channel].is_text:
            # Characters outside of the GSM 7-bit alphabet more than double the price.
            answer = for_phones(answer)
        connection.execute("UPDATE notify_processedcallback SET answer = %s WHERE key = %s", (answer, key))
        return answer

    def _answer(self, connection: Connection, responder: Responder, message: InboundText) -> str:
        command = formatting.parse_command(message.text)
        match _parse_opt_out(message, command):
            case True:
                # The vendor confirms a STOP itself.
                responder_actions.opt_out(connection, message.channel, message.sender, self.provider, self.now)
                return ""
            case False:
                has_opted_in = responder_actions.opt_in(connection, message.channel, message.sender)
                if message.opt_out is not None:
                    return ""
                if has_opted_in:
                    return localize(responder_actions.OPTED_IN(), responder.language)
                # START changed nothing: "yes" is then an ordinary word.
        channel = CHANNELS[message.channel]
        via = channel.command_channel
        is_test_answered = responder_actions.answer_daily_test(
            connection, self.provider, message.channel, responder.id, self.now
        )
        # What answers an alert goes on to it.
        if is_test_answered and not responder_actions.open_for(connection, responder.id, self.now):
            return localize(responder_actions.TEST_PASSED(), responder.language)
        # A number can be forged: by text message, only what answers a page is done.
        if not channel.is_phone and (request := formatting.parse_request(message.text)) is not None:
            result = responder_actions.answer_request(connection, responder, request, via, self.now)
            return localize(result, responder.language)
        if channel.is_text and settings_store.load(connection)[settings_store.SMS_REPLY_CODES.name]:
            return self._reply_with_code_check(connection, responder, message.text, via)
        return self._reply(connection, responder, command, via)

    def _find_sender(self, connection: Connection, message: InboundText) -> Responder | None:
        channels, user_id = addresses.same_address(message.channel), message.user_id
        if user_id is None:
            user_id = responder_actions.user_id_by_address(connection, channels, message.sender, self.now)
        if user_id is None or self.authenticated_user_id not in (None, user_id):
            return None
        return responder_actions.load_responder(connection, user_id)

    def _reply(self, connection: Connection, responder: Responder, command: ParsedCommand, via: CommandChannel) -> str:
        match command.action:
            case Word.HELP:
                is_chat = via is CommandChannel.CHAT
                return localize(formatting.CHAT_HELP if is_chat else formatting.HELP, responder.language)
            case CommandKind():
                result = responder_actions.run_command(connection, responder, command, command.action, via, self.now)
                return localize(result.answer, responder.language)
            case Word.REPEAT:
                return self._list_open_alerts(connection, responder)
            case _:
                return localize(formatting.UNKNOWN, responder.language)

    def _reply_with_code_check(
        self, connection: Connection, responder: Responder, text: str, via: CommandChannel
    ) -> str:
        """Like `_reply`, where a command must end with the reply code of its alert or of another alert that is open
        for the user: a message that names several alerts carries only the code of the first.
        """
        command_text, code = render.split(text)
        command = formatting.parse_command(command_text)
        if not isinstance(command.action, CommandKind):
            return self._reply(connection, responder, formatting.parse_command(text), via)
        numbers = responder_actions.open_for(connection, responder.id, self.now)
        if command.number is not None and responder_actions.was_paged_or_owns(connection, responder.id, command.number):
            numbers = [command.number, *(number for number in numbers if number != command.number)]
        if numbers and (rejection := render.find_rejection(responder.id, numbers, code, command.action)):
            return localize(rejection, responder.language)
        return self._reply(connection, responder, command, via)

    def _list_open_alerts(self, connection: Connection, responder: Responder) -> str:
        numbers = responder_actions.open_for(connection, responder.id, self.now)
        rows = load_alerts(connection, sorted(numbers)[:5], "subject")
        if not rows:
            return localize(formatting.NONE_OPEN, responder.language)
        omitted_count = len(numbers) - len(rows)
        more = f" {phrase(responder.language, 'And {more} more', more=omitted_count)}." if omitted_count else ""
        # Subjects come from the source and are not translated.
        return "; ".join(f"#{number} {rows[number]['subject'][:60]}" for number in sorted(rows)) + f".{more}"

    def _claim(self, connection: Connection, key: str) -> str | None:
        """Returns the stored answer of a repeated text, or None for a new one. Waits for a transaction that is handling
        the same text.
        """
        connection.execute(
            "DELETE FROM notify_processedcallback WHERE key IN (SELECT key FROM notify_processedcallback "
            "WHERE at < %s LIMIT 100 FOR UPDATE SKIP LOCKED)",
            (self.now - _RETENTION,),
        )
        is_new = connection.execute(
            "INSERT INTO notify_processedcallback (key, at) VALUES (%s, %s) ON CONFLICT DO NOTHING", (key, self.now)
        ).rowcount
        if is_new:
            return None
        row = connection.execute("SELECT answer FROM notify_processedcallback WHERE key = %s", (key,)).fetchone()
        return row[0] if row else ""


def _storable[T: (InboundText, Receipt, CallState, HotlineEvent)](event: T) -> T:
    """Returns `event` without characters that PostgreSQL cannot store. A gateway that mistakes the GSM 7-bit alphabet
    for ASCII turns each @ into a NUL.
    """
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    texts: dict[str, Any] = {name: sanitize(str(value)) for name, value in values.items() if type(value) is str}
    return replace(event, **texts)


def _parse_opt_out(message: InboundText, command: ParsedCommand) -> bool | None:
    """Returns True for an opt-out, False for an opt-in, None for neither: by the vendor's classification, else by the
    carriers' keywords. STOP words count only on phone channels: in a chat, no carrier confirms a STOP, and "cancel"
    means something else.
    """
    if message.opt_out is not None:
        return message.opt_out
    if command.action is Word.START:
        return False
    return True if command.action is Word.STOP and CHANNELS[message.channel].is_phone else None
