"""Mail to people about their accounts: by the server of TOCSIN_SMTP_URL, else into the sandbox. Never pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.backends.smtp import EmailBackend as SmtpBackend

from tocsin.core import clock, config, ids
from tocsin.notify.models import SandboxMessage

#: A server that does not answer must not hold a page for longer.
TIMEOUT = 10

_PORTS = {"smtp": 587, "smtps": 465}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def leaves_the_machine() -> bool:
    """Whether mail goes to a real server."""
    return config.current().smtp_url is not None


class Backend(BaseEmailBackend):
    """Django's way out for mail: a real server or the sandbox, by the configuration of the process."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:  # type: ignore[override]
        """Sends each; returns how many went. Raises the server's own errors."""
        if not leaves_the_machine():
            for message in email_messages:
                _keep(message)
            return len(email_messages)
        return int(_smtp().send_messages(list(email_messages)) or 0)


def _smtp() -> SmtpBackend:
    parts = urlsplit(config.current().smtp_url or "")
    secure = parts.scheme == "smtps"
    return SmtpBackend(
        host=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        use_ssl=secure,
        # A relay on this machine speaks plainly; to any other, nothing goes unencrypted.
        use_tls=not secure and parts.hostname not in _LOOPBACK,
        timeout=TIMEOUT,
    )


def _keep(message: EmailMessage) -> None:
    content: dict[str, Any] = {"subject": message.subject, "text": message.body}
    if isinstance(message, EmailMultiAlternatives):
        content |= {"html": str(part.content) for part in message.alternatives if part.mimetype == "text/html"}
    for address in message.recipients():
        SandboxMessage.objects.create(
            delivery=ids.uuid7(), channel="email", address=address, content=content, at=clock.now()
        )
