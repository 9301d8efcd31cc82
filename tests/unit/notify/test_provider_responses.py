"""Meanings of provider responses, gateway templates, and keywords of replies and keys."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.http import Response, http_double
from tests.doubles.ntfy import ntfy_double
from tests.doubles.slack import slack_double
from tests.doubles.telegram import telegram_double
from tests.doubles.telnyx import refusal, telnyx_double
from tests.doubles.twilio import twilio_double
from tests.support.hypothesis_profiles import examples
from tests.support.notification_messages import bundle, page
from tocsin.alerts.states import CommandKind
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net.egress import EgressResponse
from tocsin.core.reasons import as_reason
from tocsin.notify import interfaces
from tocsin.notify.channels import phone
from tocsin.notify.integrations import telnyx, twilio, twiml, vendor_http
from tocsin.notify.integrations.http_gateway import (
    BodyFormat,
    HttpGatewayKind,
    render_template,
    unknown_placeholders,
    value_at_path,
)
from tocsin.notify.integrations.ntfy import NtfySender
from tocsin.notify.integrations.slack import _ADDRESS_ERRORS, SlackSender
from tocsin.notify.integrations.telegram import TelegramSender
from tocsin.notify.integrations.telnyx import TelnyxSender
from tocsin.notify.integrations.twilio import TwilioSender
from tocsin.notify.interfaces import CallPrompt, ProviderAccount, Rendered
from tocsin.notify.providers.pool import CHANNELS, KINDS
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting
from tocsin.notify.text.formatting import ParsedCommand, Word
from tocsin.notify.text.render import ContentLevel, redact

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)


def test_twilio_call_strips_characters_invalid_in_xml() -> None:
    """Else it says that there is an application error, and hangs up."""
    alert = replace(page().alerts[0], subject="VPN\uffff is\ufffe down\x01", short_text="")
    rendered = CHANNELS["voice"].render(replace(page(), alerts=(alert,)))
    assert rendered.script is not None
    for made in (
        twiml.document(
            *twiml.step(CallPrompt(script=rendered.script), "https://tocsin.example.org/hooks/twilio/voice")
        ),
        twiml.document(*twiml.step(rendered.script.without_keys(), "")),
        twilio.text_answer("Taken by Ann\x02."),
    ):
        text = " ".join(" ".join(ET.fromstring(made).itertext()).split())
        assert "VPN is down" in text or "Taken by Ann" in text


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_is_temporary_or_needs_a_person(status: int) -> None:
    is_temporary = status >= 500 or status in (408, 425, 429)
    with pytest.raises(Temporary if is_temporary else Permanent) as caught:
        vendor_http.raise_for_status(EgressResponse(status, {"retry-after": "7"}, b""), "Vendor", "why")
    assert str(status) in caught.value.detail
    if is_temporary:
        assert isinstance(caught.value, Temporary)
        assert caught.value.retry_after == timedelta(seconds=7)


def test_every_code_of_a_vendor_is_a_sentence() -> None:
    for known in (*twilio.ERRORS.values(), *telnyx.ERRORS.values()):
        sentence = str(known.reason)
        # The vendor's code and the full stop follow.
        assert not sentence.endswith(".")
        assert sentence[0].isupper()
    assert twilio.find_error("21610") == twilio.ERRORS[21610]
    assert twilio.find_error(None) is twilio.find_error("x") is twilio.find_error("99999") is None


BAD = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@examples(60)
@given(BAD)
def test_template_value_cannot_escape_its_position(text: str) -> None:
    values = {"text": text, "to": "+41790000001"}
    assert json.loads(render_template('{"t": "<text>"}', values, BodyFormat.JSON)) == {"t": text}
    assert parse_qs(render_template("to=<to>&t=<text>", values, BodyFormat.FORM), keep_blank_values=True)["t"] == [text]
    assert (
        ET.fromstring(render_template("<sms><t a='1'><text></t></sms>", values, BodyFormat.XML)).findtext("t") or ""
    ) == text
    assert render_template("<text>", values, BodyFormat.TEXT) == text
    assert "&" not in render_template("<text>", values, BodyFormat.FORM)


def test_a_place_that_nothing_fills_is_named() -> None:
    assert unknown_placeholders("<to> <phone> <text>", BodyFormat.JSON) == ["phone"]
    assert unknown_placeholders("<sms><to></sms>", BodyFormat.XML) == []


@pytest.mark.parametrize(
    ("status", "code", "error", "message"),
    [
        (403, "40300", AddressRejected, "opted out with STOP"),
        (403, "20100", Permanent, "has no balance left"),
        (403, "10010", Permanent, "rejected the credentials (403: The title (10010))."),
        (429, "40318", Temporary, "accepts no more messages for now"),
        (400, "40318", Temporary, "queue of the From number is full"),
    ],
)
def test_telnyx_rejection_is_classified_by_code_before_status(
    status: int, code: str, error: type[Exception], message: str
) -> None:
    with telnyx_double("KEY1") as double:
        double.answers.append(refusal(status, code, "The title"))
        sender = TelnyxSender(ProviderAccount("Telnyx", double.settings, {"api_key": "KEY1"}, is_trusted=True))
        with pytest.raises(error, match=re.escape(message)) as caught:
            sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key")
        sender.close()
    assert type(caught.value) is error


def test_a_full_queue_of_twilios_is_tried_again() -> None:
    with twilio_double("token") as double:
        full = {"code": 21611, "message": "This 'From' number has exceeded the maximum number of queued messages"}
        double.refusals.append(Response(400, json.dumps(full).encode()))
        sender = TwilioSender(ProviderAccount("Twilio", double.settings, {"auth_token": "token"}, is_trusted=True))
        with pytest.raises(Temporary, match=r"queue of the From number is full \(Twilio 21611\)\."):
            sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key")
        sender.close()


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ({"status": "suspended"}, "provider.twilio_account_not_active"),
        ({"status": "active", "type": "Trial"}, "provider.twilio_trial"),
        ({"status": "active", "type": "Full"}, "provider.twilio_signed_in"),
    ],
)
def test_check_of_twilio_says_what_its_account_is(account: dict[str, str], code: str) -> None:
    answer = {"friendly_name": "Acme", **account}
    with http_double(lambda request: Response(200, json.dumps(answer).encode())) as double:
        settings = {"api_base": double.url, "account_sid": "AC1", "from_number": "+15005550006"}
        sender = TwilioSender(ProviderAccount("Twilio", settings, {"auth_token": "token"}, is_trusted=True))
        try:
            found = sender.verify()
        except Permanent as error:
            found = error.full_reason
        sender.close()
    assert code in f"{found.code} {found.data}"


@pytest.mark.parametrize(
    ("settings", "secrets", "codes"),
    [
        ({"address": "alerts"}, {}, {"provider.mail_replies_no_address", "provider.mail_replies_enter_address"}),
        ({"address": "a@example.org"}, {}, {"provider.mail_replies_no_source", "provider.mail_replies_enter_source"}),
        ({"address": "a@example.org"}, {"post_secret": "s"}, {"provider.mail_replies_waiting"}),
    ],
)
def test_check_of_reply_mailbox_says_what_is_missing(
    settings: dict[str, str], secrets: dict[str, str], codes: set[str]
) -> None:
    sender = KINDS["mail_replies"].open(ProviderAccount("Replies", settings, secrets))
    try:
        found = {sender.verify().code}
    except Permanent as error:
        found = {error.reason.code, error.remedy_reason.code}
    assert found == codes


def test_reply_mailbox_sends_nothing() -> None:
    sender = KINDS["mail_replies"].open(ProviderAccount("Replies", {}, {}))
    with pytest.raises(Permanent) as caught:
        sender.send(Rendered("", "VPN down"), "email", "a@example.org", "key")
    codes = (caught.value.reason.code, caught.value.remedy_reason.code)
    assert codes == ("provider.mail_replies_sends_nothing", "provider.mail_replies_add_smtp")


@pytest.mark.parametrize("error", _ADDRESS_ERRORS)
def test_error_about_an_address_at_slack_says_why(error: str) -> None:
    with slack_double() as double:
        double.errors.append(error)
        account = ProviderAccount("Slack", {"api_base": double.api}, {"bot_token": double.token}, is_trusted=True)
        sender = SlackSender(account)
        with pytest.raises(AddressRejected) as caught:
            sender.send(CHANNELS["chat"].render(page()), "chat", "slack:U012AB3CD", "key")
        sender.close()
    assert (caught.value.reason.code, caught.value.reason["error"]) == (_ADDRESS_ERRORS[error].code, error)


@pytest.mark.parametrize("error", ["rate_limited", "ratelimited", "message_limit_exceeded", "team_added_to_org"])
def test_what_passes_by_itself_at_slack_is_tried_again(error: str) -> None:
    with slack_double() as double:
        double.errors.append(error)
        account = ProviderAccount("Slack", {"api_base": double.api}, {"bot_token": double.token}, is_trusted=True)
        sender = SlackSender(account)
        with pytest.raises(Temporary, match=error):
            sender.send(CHANNELS["chat"].render(page()), "chat", "slack:U012AB3CD", "key")
        sender.close()


@pytest.mark.parametrize(
    ("status", "description"),
    [
        (400, "Bad Request: chat not found"),
        (400, "Bad Request: not enough rights to send text messages to the chat"),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
        (400, "Bad Request: PEER_ID_INVALID"),
        (403, "Forbidden: bot was blocked by the user"),
    ],
)
def test_blocked_telegram_chat_is_no_bot_failure(status: int, description: str) -> None:
    with telegram_double() as double:
        body = {"ok": False, "error_code": status, "description": description}
        double.answers.append(Response(status, json.dumps(body).encode()))
        account = ProviderAccount(
            "Telegram", {"api_base": double.http.url}, {"bot_token": double.token}, is_trusted=True
        )
        sender = TelegramSender(account)
        with pytest.raises(AddressRejected):
            sender.send(CHANNELS["chat"].render(page()), "chat", "telegram:-4711", "key")
        sender.close()


def test_reserved_ntfy_topic_is_no_server_failure() -> None:
    with ntfy_double() as double:
        double.answers.append(Response(403, b'{"code": 40301, "http": 403, "error": "forbidden"}'))
        sender = NtfySender(ProviderAccount("ntfy", {"api_base": double.url}, is_trusted=True))
        with pytest.raises(AddressRejected, match=r"denied access to the topic \(403: forbidden\)\."):
            sender.send(CHANNELS["ntfy"].render(page()), "ntfy", "a-topic", "key")
        sender.close()


def test_migrated_telegram_supergroup_is_reached_by_its_new_id() -> None:
    """https://core.telegram.org/bots/api#responseparameters"""
    with telegram_double() as double:
        moved = {"ok": False, "error_code": 400, "parameters": {"migrate_to_chat_id": -1001234567890},
                 "description": "Bad Request: group chat was upgraded to a supergroup chat"}  # fmt: skip
        double.answers.append(Response(400, json.dumps(moved).encode()))
        account = ProviderAccount(
            "Telegram", {"api_base": double.http.url}, {"bot_token": double.token}, is_trusted=True
        )
        sender = TelegramSender(account)
        sender.send(CHANNELS["chat"].render(page()), "chat", "telegram:-4711", "key")
        sender.close()
        assert [message["chat_id"] for message in double.messages] == [-1001234567890]


def test_gateway_may_answer_with_list_and_json_booleans() -> None:
    """What is not understood would be sent again and again."""
    settings = {"ok_path": "0^sent", "ok_value": "true", "id_path": "0^id", "error_path": "0^why"}
    with http_double() as server:
        account = ProviderAccount("SMS", {**settings, "api_base": server.url}, is_trusted=True)
        sender = HttpGatewayKind().open(account)
        server.answering = lambda _: Response(200, b'[{"sent": true, "id": 7}]')
        assert sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key") == "7"
        server.answering = lambda _: Response(200, b'[{"sent": false, "why": "no credit"}]')
        with pytest.raises(Permanent, match=r"did not accept the message: no credit\."):
            sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key")
        sender.close()


@pytest.mark.parametrize("vendor", ["twilio", "telnyx"])
def test_from_number_is_accepted_in_common_notations(vendor: str) -> None:
    made = {"twilio": twilio_double, "telnyx": telnyx_double}[vendor]
    with made("secret") as double:
        plain = double.settings["from_number"]
        written = {**double.settings, "from_number": f"{plain[:3]} {plain[3:5]} {plain[5:]}"}
        secrets = {"auth_token": "secret", "api_key": "secret"}
        sender = KINDS[vendor].open(ProviderAccount(vendor, written, secrets, is_trusted=True))
        sender.send(Rendered("", "VPN down"), "sms", "+41790000001", "key")
        sender.close()
        assert len(double.messages) == 1


def test_a_path_walks_objects_and_lists_and_never_fails() -> None:
    answer = {"messages": [{"id": 7, "empty": None}]}
    assert value_at_path(answer, "messages^0^id") == "7"
    for missing in ("messages^1^id", "messages^x", "messages", "messages^0^empty", "nothing", ""):
        assert value_at_path(answer, missing) is None


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("ack", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ("ACK 42", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("ack 42 43", ParsedCommand(CommandKind.ACKNOWLEDGE, 42, (43,))),
        ("Take #42, #43 and 44.", ParsedCommand(CommandKind.ASSIGN, 42, (43, 44))),
        ("ack 42 42", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("ack 42 5 minutes", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("7 42+43", ParsedCommand(CommandKind.ACKNOWLEDGE, 42, (43,))),
        ("ack #42.", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("ack42", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("Take#42", ParsedCommand(CommandKind.ASSIGN, 42)),
        ("742", ParsedCommand(Word.UNKNOWN)),
        ("Ack all", ParsedCommand(CommandKind.ACKNOWLEDGE, is_all=True)),
        ("ack ALL!", ParsedCommand(CommandKind.ACKNOWLEDGE, is_all=True)),
        ("ack all good here", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ("ack, on my way", ParsedCommand(CommandKind.ACKNOWLEDGE)),
        ('"ACK 42"', ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("„take“", ParsedCommand(CommandKind.ASSIGN)),
        ("close 42, thanks", ParsedCommand(CommandKind.CLOSE, 42)),
        ("close allotment gate", ParsedCommand(Word.UNKNOWN)),
        ("Close to home, back in a moment", ParsedCommand(Word.UNKNOWN)),
        ("Take a look at the router first", ParsedCommand(Word.UNKNOWN)),
        ("9 minutes away", ParsedCommand(Word.UNKNOWN)),
        ("7 people wait here", ParsedCommand(Word.UNKNOWN)),
        ("  take\n", ParsedCommand(CommandKind.ASSIGN)),
        ("assign 7", ParsedCommand(CommandKind.ASSIGN, 7)),
        ("8", ParsedCommand(CommandKind.ASSIGN)),
        ("7 42", ParsedCommand(CommandKind.ACKNOWLEDGE, 42)),
        ("6", ParsedCommand(CommandKind.ESCALATE)),
        ("9 9", ParsedCommand(CommandKind.CLOSE)),
        ("close 12", ParsedCommand(CommandKind.CLOSE, 12)),
        ("reply 42 Back in 5", ParsedCommand(CommandKind.REPLY, 42, text="Back in 5")),
        ("Reply: 5 minutes", ParsedCommand(CommandKind.REPLY, 5, text="minutes")),
        ("reply #42 5 minutes", ParsedCommand(CommandKind.REPLY, 42, text="5 minutes")),
        ("reply It works", ParsedCommand(CommandKind.REPLY, text="It works")),
        ("reply", ParsedCommand(Word.UNKNOWN)),
        ("help", ParsedCommand(Word.HELP)),
        ("1", ParsedCommand(Word.REPEAT)),
        ("STOP", ParsedCommand(Word.STOP)),
        ("stop all", ParsedCommand(Word.STOP)),
        ("Start", ParsedCommand(Word.START)),
        ("stop calling me", ParsedCommand(Word.UNKNOWN)),
        ("acknowledged", ParsedCommand(Word.UNKNOWN)),
        ("", ParsedCommand(Word.UNKNOWN)),
        ("🔥", ParsedCommand(Word.UNKNOWN)),
    ],
)
def test_a_text_means(text: str, means: ParsedCommand) -> None:
    assert formatting.parse_command(text) == means


@given(st.text(max_size=60))
@examples(100)
def test_no_text_is_too_strange(text: str) -> None:
    formatting.parse_command(text)


def test_no_answer_asks_for_a_word_that_opts_out() -> None:
    texts = [
        str(formatting.HELP),
        str(formatting.UNKNOWN),
        str(formatting.ask_which_alert(CommandKind.CLOSE, [1, 2])),
        CHANNELS["sms"].render(page()).text,
    ]
    for text in texts:
        words = {word.strip(".,:()").casefold() for word in text.split()}
        assert not words & {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "optout", "revoke"}


def test_keys_mean_what_the_menu_says() -> None:
    assert formatting.interpret_key("", "", "16789") == formatting.Key.REPEAT
    assert formatting.interpret_key("1", "9", "16789") == formatting.Key.REPEAT
    assert formatting.interpret_key("9", "", "16789") == formatting.Key.CONFIRM
    assert formatting.interpret_key("9", "9", "16789") == CommandKind.CLOSE
    assert formatting.interpret_key("7", "9", "16789") == CommandKind.ACKNOWLEDGE
    for wrong in ("0", "2", "*", "#", "77"):
        assert formatting.interpret_key(wrong, "", "16789") == formatting.Key.INVALID
    assert formatting.interpret_key("6", "", "178") == formatting.Key.INVALID


def test_country_codes_are_checked() -> None:
    assert interfaces.prefixes(" +41, +423 +41") == ("+41", "+423")
    for bad in ("41", "+", "+41 x", "+١"):
        with pytest.raises(Rejected, match="is not a country code"):
            interfaces.prefixes(bad)


def test_phone_numbers_are_parsed_by_country_and_formatted() -> None:
    assert phone.phone_number("+41 (0)79 000 00 01") == "+41790000001"
    assert phone.format_for_entry("079 000 00 01", "CH") == "+41790000001"
    assert phone.format_for_entry("0044 20 7946 0000", "") == "+442079460000"
    assert phone.format_for_display("+41790000001") == "+41 79 000 00 01"
    assert phone.format_for_display("alice@example.org") == "alice@example.org"
    for bad in ("079 000 00 01", "+41 79", "12", "+41 79 000 00 01 ext. 5", "+999123456789012345"):
        with pytest.raises(Rejected):
            phone.format_for_entry(bad, "")


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_only_safe_details_are_exposed(channel: str) -> None:
    whole = page(subject="VPN of Rita down", short_text="40 users", long_text="Call Rita", requester="Rita R")
    sent_message = replace(
        whole, purpose=Purpose.ALL_CLEAR, alerts=(replace(whole.alerts[0], all_clear_text="Taken: VPN of Rita (#42)."),)
    )
    notice = replace(
        whole, purpose=Purpose.NOTICE, title="No response: Acme: VPN of Rita down (#42)",
        text="Nobody answered Acme: VPN of Rita down. Bob was called.", reason=as_reason("You manage Acme."),
    )  # fmt: skip
    for message in (whole, bundle(3, subject="VPN of Rita down"), sent_message, notice):
        number = CHANNELS[channel].render(redact(message, ContentLevel.NUMBER))
        shown = json.dumps(number.content())
        assert "Rita" not in shown
        assert "Acme" not in shown
        assert "haloitsm.com" not in shown
    number = CHANNELS[channel].render(redact(whole, ContentLevel.NUMBER))
    assert "20817" in f"{number.subject} {number.text}"
    subject = CHANNELS[channel].render(redact(whole, ContentLevel.SUBJECT))
    assert "VPN of Rita down" in f"{subject.subject} {subject.text}"
    assert "40 users" not in json.dumps(subject.content())
    assert "Rita R" not in json.dumps(subject.content())
