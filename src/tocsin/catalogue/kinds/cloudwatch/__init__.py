"""Amazon SNS: a notification's own message, the signature that proves it, and the confirmation of a subscription.

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

import msgspec

from tocsin.catalogue.hooks import Fetch, Headers, Payload, Sender, SenderReply

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

#: Only addresses of Amazon SNS itself, whole, so that no two readers of an address can disagree about its host.
_HOST: Final = r"https://sns\.[a-z0-9-]{3,40}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE: Final = re.compile(_HOST + r"/[A-Za-z0-9_.-]{1,200}\.pem")
_SUBSCRIPTION: Final = re.compile(_HOST + r"/\?[A-Za-z0-9_.:/%&=+-]{1,2000}")

#: What is signed, in this order; Subject only where there is one.
_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}

#: A message that nests deeper stays text.
_MAX_DEPTH: Final = 50

_ALARM: Final = re.compile(r"arn:(aws[a-z-]*):cloudwatch:([a-z0-9-]{3,40}):[0-9]*:alarm:(.{1,300})")
_CONSOLES: Final = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
}

#: Amazon has one for each region, and a new one every year or so.
_MAX_CERTIFICATES: Final = 64


def messages(payload: Payload, headers: Headers) -> list[Payload]:
    """The notification with its message read as `alarm`, and the alarm's page as `console`. Both are always made anew
    from what is signed: what a sender writes there counts for nothing."""
    opened = {name: value for name, value in payload.items() if name not in ("alarm", "console")}
    alarm = _object(payload.get("Message"))
    if alarm is not None:
        opened["alarm"] = alarm
        if (console := _console(alarm)) is not None:
            opened["console"] = console
    return [payload] if opened == payload else [opened]


def refusal(payload: Payload, headers: Headers, fetch: Fetch) -> str | None:
    """Why Amazon SNS did not sign this (signature version 1 or 2); None where it did."""
    fields = _SIGNED.get(str(payload.get("Type")))
    if fields is None:
        return "This is no message of Amazon SNS. If it is, switch raw message delivery off in its subscription."
    address = payload.get("SigningCertURL")
    if not isinstance(address, str) or not _CERTIFICATE.fullmatch(address):
        return "The address of the signing certificate is not one of Amazon SNS."
    certificate = _CERTIFICATES.at(address, fetch)
    try:
        signature = base64.b64decode(str(payload.get("Signature")), validate=True)
        at = datetime.fromisoformat(str(payload.get("Timestamp")))
    except (binascii.Error, ValueError):
        return "It has no signature, or no time, that can be read."
    if at.tzinfo is None or not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
        return "The signing certificate is not valid at the message's time."
    version = str(payload.get("SignatureVersion"))
    if not _is_signed(certificate, signature, _text(payload, fields), version):
        return f"The signature (version {version[:10]}) is not right."
    return None


def sender(payload: Payload, settings: Mapping[str, object]) -> Sender:
    """The topic, which is signed: anybody with an account at Amazon can have messages signed for a topic of theirs."""
    remedy = "enter the topic's ARN in the integration's settings, or rotate its URL and subscribe again."
    return Sender(str(payload.get("TopicArn"))[:300], str(settings.get("topic_arn") or ""), remedy)


def handshake(payload: Payload, headers: Headers, fetch: Fetch) -> SenderReply | None:
    """Confirms a subscription, by asking the address that Amazon signed for it."""
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
    """Certificates by their address: one is fetched once. Used by many threads."""

    def __init__(self) -> None:
        self._known: dict[str, Certificate] = {}
        self._lock = threading.Lock()

    def at(self, address: str, fetch: Fetch) -> Certificate:
        """Raises what `fetch` raises, and ValueError for what is no certificate."""
        with self._lock:
            known = self._known.get(address)
        if known is not None:
            return known
        # Loaded when the first notification comes: no other node's start waits for it.
        from cryptography.x509 import load_pem_x509_certificate

        certificate = load_pem_x509_certificate(fetch(address))
        with self._lock:
            if len(self._known) >= _MAX_CERTIFICATES:
                self._known.clear()
            self._known[address] = certificate
        return certificate


_CERTIFICATES: Final = _Certificates()


def _is_signed(certificate: Certificate, signature: bytes, text: bytes, version: str) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or version not in ("1", "2"):
        return False
    # Version 1 is SHA-1 by Amazon's definition; a topic is set to version 2 by its owner.
    algorithm = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303
    try:
        key.verify(signature, text, padding.PKCS1v15(), algorithm)
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _text(payload: Payload, fields: tuple[str, ...]) -> bytes:
    """The text that Amazon signs: name and value, each on a line of its own."""
    parts = [f"{name}\n{payload[name]}\n" for name in fields if payload.get(name) is not None]
    return "".join(parts).encode("utf-8", "surrogatepass")


def _object(message: object) -> Payload | None:
    """The JSON object that a message is, or None."""
    if not isinstance(message, str) or not message.lstrip().startswith("{"):
        return None
    try:
        found = msgspec.json.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_shallow(found) else None


def _is_shallow(value: dict[str, object]) -> bool:
    level: list[dict[str, object] | list[object]] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return True
    return False


def _console(alarm: Payload) -> str | None:
    """The alarm's page in Amazon's console."""
    found = _ALARM.fullmatch(str(alarm.get("AlarmArn")))
    if found is None or (host := _CONSOLES.get(found.group(1))) is None:
        return None
    region, name = found.group(2), quote(found.group(3), safe="")
    return f"https://{region}.{host}/cloudwatch/home?region={region}#alarmsV2:alarm/{name}"
