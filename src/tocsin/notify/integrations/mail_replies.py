"""The `mail_replies` provider kind. It sends nothing and receives replies: from an IMAP mailbox, or as mails posted by
a webhook.

Posted mails arrive at `/hooks/{provider}/mail`, as a whole (RFC 5322) or in a form field, with a secret.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from email import message_from_bytes, policy
from email.utils import parseaddr

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import imap
from tocsin.core.reasons import Reason, ReasonType, as_reason, translatable
from tocsin.notify.interfaces import (
    Callback,
    CallbackResponse,
    EventReceiver,
    InvalidWebhookSignature,
    ProviderAccount,
    ProviderSetting,
    ProviderSettingType,
    Rendered,
    WebhookEndpoint,
    WebhookProvider,
)
from tocsin.notify.text.signed_links import ReplyAddress

#: The form fields in which mail services post a whole mail: SendGrid, Mailgun, Postmark's relays, and Tocsin's own.
_FIELDS = ("email", "body-mime", "raw", "message", "mail")

_USE_POST = ReasonType("provider.mail_replies_use_post", "Send the email by POST.")
_SENDS_NOTHING = ReasonType("provider.mail_replies_sends_nothing", "A reply mailbox sends nothing.")
_ADD_SMTP = ReasonType("provider.mail_replies_add_smtp", "Add an SMTP server.")
_NO_ADDRESS = ReasonType("provider.mail_replies_no_address", "The address for replies is not an email address.")
_ENTER_ADDRESS = ReasonType("provider.mail_replies_enter_address", "Enter one like alerts@example.org.")
_NO_SOURCE = ReasonType("provider.mail_replies_no_source", "Replies cannot arrive.")
_ENTER_SOURCE = ReasonType(
    "provider.mail_replies_enter_source", "Enter an IMAP server, or a secret for forwarded emails."
)
_WAITING = ReasonType("provider.mail_replies_waiting", "Waiting for forwarded emails.")
_NO_MAIL = ReasonType(
    "provider.mail_replies_no_mail",
    "The request contains no email. Send the whole email as the body, or in one of the fields {fields}.",
)


class _MailboxSender:
    """The mailbox as a provider, which can only be verified and closed."""

    def __init__(self, account: ProviderAccount) -> None:
        self._account = account

    def send(self, rendered: Rendered, channel: str, address: str, idempotency_key: str) -> str:
        raise Permanent(_SENDS_NOTHING(), _ADD_SMTP())

    def verify(self) -> Reason:
        if "@" not in parseaddr(str(self._account.settings.get("address", "")))[1]:
            raise Permanent(_NO_ADDRESS(), _ENTER_ADDRESS())
        mailbox_account = mailbox_of(self._account)
        if mailbox_account is None:
            if not self._account.secrets.get("post_secret"):
                raise Permanent(_NO_SOURCE(), _ENTER_SOURCE())
            return _WAITING()
        mailbox = imap.ImapMailbox(mailbox_account)
        try:
            return as_reason(mailbox.describe())
        finally:
            mailbox.close()

    def close(self) -> None:
        """Nothing is open: the poller has its own connection."""


class MailRepliesKind(WebhookProvider):
    name = "mail_replies"
    label = "Reply-by-email mailbox"
    description = "Receives email replies to pages, by IMAP or by forwarding."
    icon = "mail-opened"
    channels: tuple[str, ...] = ()
    max_concurrent_sends = 1
    open = _MailboxSender
    settings: tuple[ProviderSetting, ...] = (
        ProviderSetting("address", "Reply-to address", is_required=True, help="Set as Reply-To in emails."),
        ProviderSetting(
            "tagged",
            "Add the alert to the reply address",
            ProviderSettingType.FLAG,
            default=False,
            help="For example alerts+…@example.org. Requires a mail server that supports plus addressing.",
        ),
        ProviderSetting(
            "host",
            "IMAP server",
            ProviderSettingType.HOST,
            help="For example imap.example.org. Leave empty if emails are forwarded instead.",
        ),
        ProviderSetting("port", "Port", ProviderSettingType.NUMBER, help="Default: 993, or 143 without implicit TLS."),
        ProviderSetting(
            "security",
            "Encryption",
            ProviderSettingType.CHOICE,
            default="tls",
            choices=tuple(imap.ImapSecurity),
            help="Certificates are always verified.",
        ),
        ProviderSetting("username", "Username", help="Often the full email address."),
        ProviderSetting("password", "Password", is_secret=True, help="Many servers require an app password."),
        ProviderSetting(
            "folder", "Folder", default="INBOX", help="Unread emails in this folder are processed and marked as read."
        ),
        ProviderSetting(
            "post_secret", "Secret for forwarded emails", is_secret=True, help="Sent as password or bearer token."
        ),
    )
    webhook_endpoints: tuple[WebhookEndpoint, ...] = (
        WebhookEndpoint(
            "mail",
            translatable("Forward emails to"),
            translatable("POST the complete email, with the secret as password or bearer token."),
        ),
    )

    def accepts(self, channel: str, address: str) -> bool:
        return False

    def handle_webhook(self, account: ProviderAccount, callback: Callback, receiver: EventReceiver) -> CallbackResponse:
        _check(account.secrets.get("post_secret", ""), callback.headers.get("authorization", ""))
        if callback.method != "POST":
            raise Rejected("invalid", _USE_POST())
        return CallbackResponse(200, f"{receiver.handle_mail(whole_mail(callback))}\n")


def parse_reply_address(kind: str, account: ProviderAccount) -> ReplyAddress | None:
    """Returns the Reply-To address of a `mail_replies` provider; None for any other kind."""
    address = parseaddr(str(account.settings.get("address", "")))[1]
    if kind != MailRepliesKind.name or "@" not in address:
        return None
    return ReplyAddress(address, bool(account.settings.get("tagged")))


def mailbox_of(account: ProviderAccount) -> imap.ImapAccount | None:
    """Returns the mailbox to poll; None if mails are forwarded to the webhook."""
    settings = account.settings
    if not settings.get("host"):
        return None
    return imap.ImapAccount(
        host=str(settings["host"]),
        username=str(settings.get("username") or settings.get("address") or ""),
        password=account.secrets.get("password", ""),
        folder=str(settings.get("folder") or "INBOX"),
        port=int(settings.get("port") or 0),
        security=imap.ImapSecurity(str(settings.get("security") or imap.ImapSecurity.TLS)),
        is_trusted=account.is_trusted,
    )


def whole_mail(callback: Callback) -> bytes:
    """Returns the mail in a request: the body itself, or a form field. Raises Rejected("invalid") if there is none."""
    kind = callback.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        from urllib.parse import parse_qs

        fields = {
            name: values[0].encode() for name, values in parse_qs(callback.body.decode("utf-8", "replace")).items()
        }
    elif kind == "multipart/form-data":
        fields = _parts(callback)
    else:
        fields = {"mail": callback.body}
    mail = next((fields[name] for name in _FIELDS if fields.get(name)), b"")
    if not mail.strip():
        raise Rejected("invalid", _NO_MAIL(fields=_FIELDS))
    return mail


def _parts(callback: Callback) -> dict[str, bytes]:
    head = f"Content-Type: {callback.headers['content-type']}\r\nMIME-Version: 1.0\r\n\r\n".encode()
    form = message_from_bytes(head + callback.body, policy=policy.HTTP)
    form_fields: dict[str, bytes] = {}
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            form_fields[name] = content
    return form_fields


def _check(secret: str, authorization: str) -> None:
    """Raises InvalidWebhookSignature unless the secret is the bearer token or the password of Basic authentication."""
    scheme, _, credential = authorization.partition(" ")
    match scheme.lower():
        case "basic":
            try:
                credential = base64.b64decode(credential.strip(), validate=True).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                credential = ""
        case "bearer":
            credential = credential.strip()
        case _:
            credential = ""
    if not secret or not hmac.compare_digest(secret.encode(), credential.encode("utf-8", "replace")):
        raise InvalidWebhookSignature
