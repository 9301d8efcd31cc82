"""Amazon SNS: unwraps notifications, verifies their signatures, and confirms subscriptions.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from tocsin.catalogue.hooks import Fetch, Headers, Payload, Sender, SenderReply, decode_object
from tocsin.core.reasons import Reason, sentence

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


#: Full-match patterns for Amazon SNS URLs: two URL parsers must not disagree about the host.
_HOST: Final = r"https://sns\.[a-z0-9-]{3,40}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE: Final = re.compile(_HOST + r"/[A-Za-z0-9_.-]{1,200}\.pem")
_SUBSCRIPTION: Final = re.compile(_HOST + r"/\?[A-Za-z0-9_.:/%&=+-]{1,2000}")

#: The signed fields by message type, in signing order; Subject only if present.
_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}

_ALARM: Final = re.compile(r"arn:(aws[a-z-]*):cloudwatch:([a-z0-9-]{3,40}):[0-9]*:alarm:(.{1,300})")
_CONSOLES: Final = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
}

#: Amazon uses one certificate for each region and replaces it about once a year.
_MAX_CERTIFICATES: Final = 64


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """Returns the notification with its message parsed as `alarm` and the alarm's console URL as `console`.

    Both are always derived from signed fields: values that a sender puts there are discarded.
    """
    unwrapped = {name: value for name, value in payload.items() if name not in ("alarm", "console")}
    alarm = decode_object(payload.get("Message"))
    if alarm is not None:
        unwrapped["alarm"] = alarm
        if (console := _console(alarm)) is not None:
            unwrapped["console"] = console
    return [payload] if unwrapped == payload else [unwrapped]


def refusal(payload: Payload, headers: Headers, fetch: Fetch) -> Reason | None:
    """Returns why the SNS signature (version 1 or 2) is not valid, or None if it is."""
    fields = _SIGNED.get(str(payload.get("Type")))
    if fields is None:
        return sentence(
            "This is not an Amazon SNS message. If it is, disable raw message delivery in its subscription."
        )
    address = payload.get("SigningCertURL")
    if not isinstance(address, str) or not _CERTIFICATE.fullmatch(address):
        return sentence("The URL of the signing certificate does not belong to Amazon SNS.")
    certificate = _CERTIFICATES.get(address, fetch)
    try:
        signature = base64.b64decode(str(payload.get("Signature")), validate=True)
        at = datetime.fromisoformat(str(payload.get("Timestamp")))
    except (binascii.Error, ValueError):
        return sentence("The message has no readable signature or no readable time.")
    if at.tzinfo is None or not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return sentence("The signing certificate is not valid at the time of the message.")
    version = str(payload.get("SignatureVersion"))
    if not _is_signed(certificate, signature, _text(payload, fields), version):
        return sentence("The signature (version {version}) is invalid.", version=version[:10])
    return None


def sender(payload: Payload, settings: Mapping[str, object]) -> Sender:
    """Returns the topic, which is signed. It must be pinned: any AWS account gets its own topics signed."""
    return Sender(
        str(payload.get("TopicArn"))[:300],
        str(settings.get("topic_arn") or ""),
        sentence("enter the topic's ARN in the integration's settings, or rotate its URL and subscribe again."),
    )


def handshake(payload: Payload, headers: Headers, fetch: Fetch) -> SenderReply | None:
    """Confirms a subscription by fetching the SubscribeURL that Amazon signed."""
    if payload.get("Type") != "SubscriptionConfirmation":
        return None
    address = payload.get("SubscribeURL")
    if not isinstance(address, str) or not _SUBSCRIPTION.fullmatch(address):
        return SenderReply(
            403, b'{"error":"not_the_sender","detail":"The SubscribeURL is not an address of Amazon SNS."}'
        )
    fetch(address)
    return SenderReply(200, b'{"status":"Subscription confirmed"}')


class _Certificates:
    """Cache of signing certificates by URL. Thread-safe."""

    def __init__(self) -> None:
        self._by_url: dict[str, Certificate] = {}
        self._lock = threading.Lock()

    def get(self, address: str, fetch: Fetch) -> Certificate:
        """Returns the certificate at `address`. Raises what `fetch` raises, and ValueError for invalid PEM."""
        with self._lock:
            cached = self._by_url.get(address)
        if cached is not None:
            return cached
        # Imported with the first notification, so that nodes without SNS integrations start without it.
        from cryptography.x509 import load_pem_x509_certificate

        certificate = load_pem_x509_certificate(fetch(address))
        with self._lock:
            if len(self._by_url) >= _MAX_CERTIFICATES:
                self._by_url.clear()
            self._by_url[address] = certificate
        return certificate


_CERTIFICATES: Final = _Certificates()


def _is_signed(certificate: Certificate, signature: bytes, text: bytes, version: str) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or version not in ("1", "2"):
        return False
    # Amazon defines version 1 as SHA-1; the topic's owner can switch the topic to version 2.
    algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303
    try:
        key.verify(signature, text, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _text(payload: Payload, fields: tuple[str, ...]) -> bytes:
    """Returns the string to sign: each name and each value on its own line."""
    parts = [f"{name}\n{payload[name]}\n" for name in fields if payload.get(name) is not None]
    return "".join(parts).encode("utf-8", "surrogatepass")


def _console(alarm: Payload) -> str | None:
    """Returns the URL of the alarm in the AWS console, or None if the ARN is not understood."""
    match = _ALARM.fullmatch(str(alarm.get("AlarmArn")))
    if match is None or (host := _CONSOLES.get(match.group(1))) is None:
        return None
    region, name = match.group(2), quote(match.group(3), safe="")
    return f"https://{region}.{host}/cloudwatch/home?region={region}#alarmsV2:alarm/{name}"
