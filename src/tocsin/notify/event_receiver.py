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
from tocsin.core.validation.text_sanitizing import sanitize
from tocsin.notify.inbound import delivery_receipts, opt_outs, responder_actions, voice_call
from tocsin.notify.inbound.responder_actions import Responder
from tocsin.notify.mail_replies import process
from tocsin.notify.provider_settings import PHONES
from tocsin.notify.text import command_parser, reply_codes
from tocsin.notify.text.command_parser import Asked, Word
from tocsin.notify.text.localization import localize
from tocsin.notify.text.phrases import phrase
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
_SAME = {"sms": ("sms", "voice"), "voice": ("voice", "sms")}

#: How long processed callbacks are kept for deduplication. Vendors retry for a few hours at most.
_RETENTION = timedelta(days=2)

#: After this time without a result, the process that started on a message is presumed dead and a retry may start over.
_IN_PROGRESS_TIMEOUT = timedelta(seconds=30)

_BEGIN = """
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
    speaker: int | None = None

    def receipt(self, receipt: Receipt) -> None:
        receipt = _storable(receipt)
        database.retry_once(lambda: self._receipt(receipt))

    def text(self, said: InboundText) -> str:
        said = _storable(said)
        wants = command_parser.parse_command(said.text)
        if (is_out := _opting(said, wants)) is not None and (answer := self._opt(said, is_out)) is not None:
            return answer
        with database.transaction() as connection:
            user_id = self._whose(connection, said)
            who = responder_actions.load_responder(connection, user_id) if user_id is not None else None
            # An unknown sender gets no reply, so that a stranger cannot find out which addresses are known.
            if who is None:
                return ""
            before = self._begin(connection, said)
            asks_code = said.channel == "sms" and settings_store.load(connection)[settings_store.SMS_REPLY_CODES.name]
        if before is not None:
            return before
        try:
            via = _COMMAND_CHANNELS.get(said.channel, CommandChannel.CHAT)
            heard = self._answer_coded(who, said.text, via) if asks_code else self._answer(who, wants, via)
            answer = _worded(heard, said)
        except Exception:
            # The command failed. Forget the message, so that the vendor's retry is processed.
            with database.transaction() as connection:
                self._forget(connection, said)
            raise
        with database.transaction() as connection:
            self._keep(connection, said, answer)
        return answer

    def mail(self, raw: bytes) -> str:
        try:
            outcome = process.process_mail(self.provider, raw, self.now)
        except process.AlreadyInProgress:
            raise Temporary("It is being worked on: send it again in two minutes.") from None
        return outcome.reason if outcome else "It was taken before."

    def call(self, turn: CallState) -> CallPrompt:
        return voice_call.continue_call(self.provider, _storable(turn), self.now)

    def button(self, user_id: int, alert_id: int, command: str, via: str) -> ButtonResult:
        with database.transaction() as connection:
            who = responder_actions.load_responder(connection, user_id)
        if who is None:
            sentence = "This account is switched off."
            return ButtonResult(sentence, sentence)
        if command not in {str(kind) for kind in responder_actions.OFFERED}:
            sentence = "That cannot be asked for here. Open the alert."
        else:
            sentence = responder_actions.apply_answer(
                who, alert_id, CommandKind(command), CommandChannel(via), self.now
            ).sentence
        return ButtonResult(sentence, localize(sentence, who.language), who.language)

    def user_of(self, channel: str, address: str) -> int | None:
        with database.transaction() as connection:
            return responder_actions.user_id_by_address(connection, (channel,), sanitize(address), self.now)

    def _receipt(self, receipt: Receipt) -> None:
        with database.transaction() as connection:
            delivery_receipts.apply(connection, self.provider, receipt, self.now)

    def _opt(self, said: InboundText, is_out: bool) -> str | None:
        """Applies STOP or START. Returns the reply: the vendor confirms a STOP itself, and Tocsin confirms a START only
        where the vendor did not recognise it. Returns None if START changed nothing, since "yes" is then an ordinary
        word.
        """
        with database.transaction() as connection:
            user_id = self._whose(connection, said)
            if user_id is None:
                return ""
            if is_out:
                opt_outs.opt_out(connection, said.channel, said.sender, self.provider, self.now)
                return ""
            came_back = opt_outs.opt_in(connection, said.channel, said.sender)
            who = responder_actions.load_responder(connection, user_id)
        if said.opt_out is not None:
            return ""
        return localize(opt_outs.START_ANSWER, who.language if who else "") if came_back else None

    def _whose(self, connection: Connection, said: InboundText) -> int | None:
        user_id = responder_actions.user_id_by_address(
            connection, _SAME.get(said.channel, (said.channel,)), said.sender, self.now
        )
        return user_id if self.speaker in (None, user_id) else None

    def _answer(self, who: Responder, wants: Asked, via: CommandChannel) -> str:
        match wants.what:
            case Word.HELP:
                return localize(command_parser.HELP, who.language)
            case CommandKind():
                return localize(self._act(who, wants, wants.what, via), who.language)
            case Word.HEAR_AGAIN:
                return self._list(who)
            case _:
                return localize(command_parser.UNKNOWN, who.language)

    def _answer_coded(self, who: Responder, text: str, via: CommandChannel) -> str:
        """Like `_answer`, where a command must end with the reply code of its alert or of another alert that is open
        for the user: a message that names several alerts carries only the code of the first.
        """
        before, code = reply_codes.split(text)
        wants = command_parser.parse_command(before)
        if not isinstance(wants.what, CommandKind):
            return self._answer(who, command_parser.parse_command(text), via)
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, who.id, self.now)
            if wants.number is not None and responder_actions.was_paged_or_owns(connection, who.id, wants.number):
                numbers = [wants.number, *(number for number in numbers if number != wants.number)]
        if numbers and (refused := reply_codes.refuse(who.id, numbers, code, wants.what)):
            return localize(refused, who.language)
        return self._answer(who, wants, via)

    def _act(self, who: Responder, wants: Asked, kind: CommandKind, via: CommandChannel) -> str:
        if wants.others and wants.number is not None:
            each = (replace(wants, number=number, others=()) for number in (wants.number, *wants.others))
            return " ".join(self._act(who, one, kind, via) for one in each)
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, who.id, self.now)
            if wants.number is not None and not responder_actions.was_paged_or_owns(connection, who.id, wants.number):
                if kind is CommandKind.REPLY and len(numbers) == 1:
                    # "Reply 5 minutes" refers to the only open alert, not to alert 5.
                    wants = replace(wants, number=None, text=f"{wants.number} {wants.text}")
                else:
                    return f"You were not paged about alert {wants.number}. Open it in Tocsin to act on it."
        if wants.number is not None:
            return responder_actions.apply_answer(who, wants.number, kind, via, self.now, wants.text).sentence
        if not numbers:
            return command_parser.NONE_OPEN
        if len(numbers) == 1:
            return responder_actions.apply_answer(who, numbers[0], kind, via, self.now, wants.text).sentence
        if not wants.is_all:
            return command_parser.ask_which_alert(kind, numbers)
        answers = [responder_actions.apply_answer(who, number, kind, via, self.now, wants.text) for number in numbers]
        done = sum(answer.is_done for answer in answers)
        return command_parser.bulk_result(kind, done, len(answers) - done)

    def _list(self, who: Responder) -> str:
        with database.transaction() as connection:
            numbers = responder_actions.open_for(connection, who.id, self.now)
            rows = connection.execute(
                "SELECT id, subject FROM alerts_alert WHERE id = ANY(%s) ORDER BY id LIMIT 5", (numbers,)
            ).fetchall()
        if not rows:
            return localize(command_parser.NONE_OPEN, who.language)
        left = len(numbers) - len(rows)
        more = f" {phrase(who.language, 'And {more} more', more=left)}." if left else ""
        # Subjects come from the source and are not translated.
        return "; ".join(f"#{number} {subject[:60]}" for number, subject in rows) + f".{more}"

    def _begin(self, connection: Connection, said: InboundText) -> str | None:
        """Claims a message for processing. Returns the earlier reply for a duplicate (empty while it is being
        processed), or None if the message is new or the process that claimed it has timed out.
        """
        if not said.external_id:
            return None
        connection.execute(
            "DELETE FROM notify_processedcallback WHERE key IN "
            "(SELECT key FROM notify_processedcallback WHERE at < %s LIMIT 100)",
            (self.now - _RETENTION,),
        )
        wanted = {"key": self._key(said), "now": self.now, "stopped": self.now - _IN_PROGRESS_TIMEOUT}
        if connection.execute(_BEGIN, wanted).fetchone() is not None:
            return None
        found = connection.execute(
            "SELECT answer FROM notify_processedcallback WHERE key = %s", (wanted["key"],)
        ).fetchone()
        return found[0] if found else ""

    def _keep(self, connection: Connection, said: InboundText, answer: str) -> None:
        if said.external_id:
            connection.execute(
                "UPDATE notify_processedcallback SET answer = %s WHERE key = %s", (answer, self._key(said))
            )

    def _forget(self, connection: Connection, said: InboundText) -> None:
        connection.execute("DELETE FROM notify_processedcallback WHERE key = %s AND answer = ''", (self._key(said),))

    def _key(self, said: InboundText) -> str:
        return hashlib.sha256(f"{self.provider}\0{said.external_id}".encode()).hexdigest()


def _storable[T: (InboundText, Receipt, CallState)](said: T) -> T:
    """Returns `said` without characters that PostgreSQL cannot store. A gateway that mistakes the GSM 7-bit alphabet
    for ASCII turns each @ into a NUL.
    """
    found = {field.name: getattr(said, field.name) for field in fields(said)}
    texts: dict[str, Any] = {name: sanitize(str(value)) for name, value in found.items() if type(value) is str}
    return replace(said, **texts)


def _worded(answer: str, said: InboundText) -> str:
    """Limits a text message to the GSM 7-bit alphabet: other characters more than double the price."""
    return for_phones(answer) if said.channel == "sms" else answer


def _opting(said: InboundText, wants: Asked) -> bool | None:
    """Returns True for an opt-out, False for an opt-in, None for neither: by the vendor's classification, else by the
    carriers' keywords. STOP words count only on phone channels: in a chat, no carrier confirms a STOP, and "cancel"
    means something else.
    """
    if said.opt_out is not None:
        return said.opt_out
    if wants.what is Word.START:
        return False
    return True if wants.what is Word.STOP and said.channel in PHONES else None
