"""Turns a provider's events into receipts, opt-outs and alert commands. Contains nothing specific to a vendor."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts.states import CommandChannel, CommandKind
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Temporary
from tocsin.core.reasons import AlertRef, Reason, ReasonType, joined
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.inbound import delivery_receipts, opt_outs, responder_actions, voice_call
from tocsin.notify.inbound.responder_actions import ACCOUNT_DISABLED, NOT_OFFERED, NOT_PAGED, Responder
from tocsin.notify.mail_replies import process
from tocsin.notify.provider_settings import PHONES
from tocsin.notify.text import command_parser, reply_codes
from tocsin.notify.text.command_parser import ParsedCommand, Word
from tocsin.notify.text.phrases import localize, phrase
from tocsin.notify.text.sms import for_phones
from tocsin.notify.webhooks import ButtonResult, CallPrompt, CallState, InboundText, Receipt

#: The alert command channel that a reply on each notification channel is recorded under.
_COMMAND_CHANNELS = {
    "sms": CommandChannel.SMS,
    "voice": CommandChannel.VOICE,
    "email": CommandChannel.EMAIL,
    "push": CommandChannel.PUSH,
    "ntfy": CommandChannel.PUSH,
    "chat": CommandChannel.CHAT,
}

#: A phone number that receives texts can also be called, and the reverse.
_EQUIVALENT_CHANNELS = {"sms": ("sms", "voice"), "voice": ("voice", "sms")}

#: How long processed callbacks are kept for deduplication. Vendors retry for a few hours at most.
_RETENTION = timedelta(days=2)

#: After this time without a result, the process that started on a message is presumed dead and a retry may start over.
_IN_PROGRESS_TIMEOUT = timedelta(seconds=30)

_MAIL_IN_PROGRESS = ReasonType("mail_reply.in_progress", "The email is being processed. Send it again in two minutes.")
_MAIL_ALREADY_PROCESSED = ReasonType("mail_reply.already_processed", "The email was processed before.")

_CLAIM = """
INSERT INTO notify_processedcallback (key, answer, at) VALUES (%(key)s, '', %(now)s)
ON CONFLICT (key) DO UPDATE SET at = excluded.at
WHERE notify_processedcallback.answer = '' AND notify_processedcallback.at < %(stopped)s RETURNING key
"""


@dataclass(frozen=True, slots=True)
class ProviderEventReceiver:
    """Handles the events of one provider at one moment. Implements `webhooks.EventReceiver`."""

    provider: str
    now: datetime
    #: The only user whose messages are accepted, where the provider has authenticated the sender; None accepts any user
    #: who has the sender's address.
    authenticated_user_id: int | None = None

    def handle_receipt(self, receipt: Receipt) -> None:
        receipt = _storable(receipt)
        database.retry_once(lambda: self._apply_receipt(receipt))

    def handle_text(self, message: InboundText) -> str:
        message = _storable(message)
        command = command_parser.parse_command(message.text)
        if (is_opt_out := _parse_opt_out(message, command)) is not None and (
            answer := self._apply_opt_change(message, is_opt_out)
        ) is not None:
            return answer
        with database.transaction() as connection:
            user_id = self._find_sender_id(connection, message)
            responder = responder_actions.load_responder(connection, user_id) if user_id is not None else None
            # An unknown sender gets no reply, so that a stranger cannot find out which addresses are known.
            if responder is None:
                return ""
            earlier_reply = self._claim(connection, message)
            requires_code = (
                message.channel == "sms" and settings_store.load(connection)[settings_store.SMS_REPLY_CODES.name]
            )
        if earlier_reply is not None:
            return earlier_reply
        try:
            via = _COMMAND_CHANNELS.get(message.channel, CommandChannel.CHAT)
            reply = (
                self._reply_with_code_check(responder, message.text, via)
                if requires_code
                else self._reply(responder, command, via)
            )
            answer = _restrict_to_gsm7(reply, message)
        except Exception:
            # The command failed. Forget the message, so that the vendor's retry is processed.
            with database.transaction() as connection:
                self._release_claim(connection, message)
            raise
        with database.transaction() as connection:
            self._store_reply(connection, message, answer)
        return answer

    def handle_mail(self, raw: bytes) -> str:
        try:
            outcome = process.process_mail(self.provider, raw, self.now)
        except process.AlreadyInProgress:
            raise Temporary(_MAIL_IN_PROGRESS()) from None
        return str(outcome.reason if outcome else _MAIL_ALREADY_PROCESSED())

    def handle_call(self, call_state: CallState) -> CallPrompt:
        return voice_call.continue_call(self.provider, _storable(call_state), self.now)

    def handle_button(self, user_id: int, alert_id: int, command: str, via: str) -> ButtonResult:
        with database.transaction() as connection:
            responder = responder_actions.load_responder(connection, user_id)
        if responder is None:
            return ButtonResult(str(ACCOUNT_DISABLED()), str(ACCOUNT_DISABLED()))
        if command not in {str(kind) for kind in responder_actions.OFFERED}:
            answer = NOT_OFFERED()
        else:
            answer = responder_actions.apply_answer(
                responder, alert_id, CommandKind(command), CommandChannel(via), self.now
            ).answer
        return ButtonResult(str(answer), localize(answer, responder.language), responder.language)

    def find_user_id(self, channel: str, address: str) -> int | None:
        with database.transaction() as connection:
            return responder_actions.user_id_by_address(connection, (channel,), sanitize(address), self.now)

    def _apply_receipt(self, receipt: Receipt) -> None:
        with database.transaction() as connection:
            delivery_receipts.apply(connection, self.provider, receipt, self.now)

    def _apply_opt_change(self, message: InboundText, is_opt_out: bool) -> str | None:
        """Applies STOP or START. Returns the reply: the vendor confirms a STOP itself, and Tocsin confirms a START only
        where the vendor did not recognise it. Returns None if START changed nothing, since "yes" is then an ordinary
        word.
        """
        with database.transaction() as connection:
            user_id = self._find_sender_id(connection, message)
            if user_id is None:
                return ""
            if is_opt_out:
                opt_outs.opt_out(connection, message.channel, message.sender, self.provider, self.now)
                return ""
            has_opted_in = opt_outs.opt_in(connection, message.channel, message.sender)
            responder = responder_actions.load_responder(connection, user_id)
        if message.opt_out is not None:
            return ""
        return localize(opt_outs.OPTED_IN(), responder.language if responder else "") if has_opted_in else None

    def _find_sender_id(self, connection: Connection, message: InboundText) -> int | None:
        user_id = responder_actions.user_id_by_address(
            connection, _EQUIVALENT_CHANNELS.get(message.channel, (message.channel,)), message.sender, self.now
        )
        return user_id if self.authenticated_user_id in (None, user_id) else None

    def _reply(self, responder: Responder, command: ParsedCommand, via: CommandChannel) -> str:
        match command.action:
            case Word.HELP:
                return localize(command_parser.HELP, responder.language)
            case CommandKind():
                return localize(self._execute(responder, command, command.action, via), responder.language)
            case Word.REPEAT:
                return self._list_open_alerts(responder)
            case _:
                return localize(command_parser.UNKNOWN, responder.language)

    def _reply_with_code_check(self, responder: Responder, text: str, via: CommandChannel) -> str:
        """Like `_reply`, where a command must end with the reply code of its alert or of another alert that is open
        for the user: a message that names several alerts carries only the code of the first.
        """
        command_text, code = reply_codes.split(text)
        command = command_parser.parse_command(command_text)
        if not isinstance(command.action, CommandKind):
            return self._reply(responder, command_parser.parse_command(text), via)
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, responder.id, self.now)
            if command.number is not None and responder_actions.was_paged_or_owns(
                connection, responder.id, command.number
            ):
                numbers = [command.number, *(number for number in numbers if number != command.number)]
        if numbers and (rejection := reply_codes.find_rejection(responder.id, numbers, code, command.action)):
            return localize(rejection, responder.language)
        return self._reply(responder, command, via)

    def _execute(self, responder: Responder, command: ParsedCommand, kind: CommandKind, via: CommandChannel) -> Reason:
        if command.other_numbers and command.number is not None:
            single_commands = (
                replace(command, number=number, other_numbers=()) for number in (command.number, *command.other_numbers)
            )
            return joined(*(self._execute(responder, single, kind, via) for single in single_commands), separator=" ")
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, responder.id, self.now)
            number = command.number
            if number is not None and not responder_actions.was_paged_or_owns(connection, responder.id, number):
                if kind is CommandKind.REPLY and len(numbers) == 1:
                    # "Reply 5 minutes" refers to the only open alert, not to alert 5.
                    command = replace(command, number=None, text=f"{number} {command.text}")
                else:
                    return NOT_PAGED(alert=AlertRef(number))
        if command.number is not None:
            return responder_actions.apply_answer(responder, command.number, kind, via, self.now, command.text).answer
        if not numbers:
            return command_parser.NONE_OPEN
        if len(numbers) == 1:
            return responder_actions.apply_answer(responder, numbers[0], kind, via, self.now, command.text).answer
        if not command.is_all:
            return command_parser.ask_which_alert(kind, numbers)
        answers = [
            responder_actions.apply_answer(responder, number, kind, via, self.now, command.text) for number in numbers
        ]
        done_count = sum(answer.is_done for answer in answers)
        return command_parser.bulk_result(kind, done_count, len(answers) - done_count)

    def _list_open_alerts(self, responder: Responder) -> str:
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, responder.id, self.now)
            rows = connection.execute(
                "SELECT id, subject FROM alerts_alert WHERE id = ANY(%s) ORDER BY id LIMIT 5", (numbers,)
            ).fetchall()
        if not rows:
            return localize(command_parser.NONE_OPEN, responder.language)
        omitted_count = len(numbers) - len(rows)
        more = f" {phrase(responder.language, 'And {more} more', more=omitted_count)}." if omitted_count else ""
        # Subjects come from the source and are not translated.
        return "; ".join(f"#{number} {subject[:60]}" for number, subject in rows) + f".{more}"

    def _claim(self, connection: Connection, message: InboundText) -> str | None:
        """Claims a message for processing. Returns the earlier reply for a duplicate (empty while it is being
        processed), or None if the message is new or the process that claimed it has timed out.
        """
        if not message.external_id:
            return None
        connection.execute(
            "DELETE FROM notify_processedcallback WHERE key IN "
            "(SELECT key FROM notify_processedcallback WHERE at < %s LIMIT 100)",
            (self.now - _RETENTION,),
        )
        parameters = {"key": self._dedup_key(message), "now": self.now, "stopped": self.now - _IN_PROGRESS_TIMEOUT}
        if connection.execute(_CLAIM, parameters).fetchone() is not None:
            return None
        row = connection.execute(
            "SELECT answer FROM notify_processedcallback WHERE key = %s", (parameters["key"],)
        ).fetchone()
        return row[0] if row else ""

    def _store_reply(self, connection: Connection, message: InboundText, answer: str) -> None:
        if message.external_id:
            connection.execute(
                "UPDATE notify_processedcallback SET answer = %s WHERE key = %s", (answer, self._dedup_key(message))
            )

    def _release_claim(self, connection: Connection, message: InboundText) -> None:
        connection.execute(
            "DELETE FROM notify_processedcallback WHERE key = %s AND answer = ''", (self._dedup_key(message),)
        )

    def _dedup_key(self, message: InboundText) -> str:
        return hashlib.sha256(f"{self.provider}\0{message.external_id}".encode()).hexdigest()


def _storable[T: (InboundText, Receipt, CallState)](event: T) -> T:
    """Returns `event` without characters that PostgreSQL cannot store. A gateway that mistakes the GSM 7-bit alphabet
    for ASCII turns each @ into a NUL.
    """
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    texts: dict[str, Any] = {name: sanitize(str(value)) for name, value in values.items() if type(value) is str}
    return replace(event, **texts)


def _restrict_to_gsm7(answer: str, message: InboundText) -> str:
    """Limits a text message to the GSM 7-bit alphabet: other characters more than double the price."""
    return for_phones(answer) if message.channel == "sms" else answer


def _parse_opt_out(message: InboundText, command: ParsedCommand) -> bool | None:
    """Returns True for an opt-out, False for an opt-in, None for neither: by the vendor's classification, else by the
    carriers' keywords. STOP words count only on phone channels: in a chat, no carrier confirms a STOP, and "cancel"
    means something else.
    """
    if message.opt_out is not None:
        return message.opt_out
    if command.action is Word.START:
        return False
    return True if command.action is Word.STOP and message.channel in PHONES else None
