"""Every kind of provider with a server behind it, for the conformance test: one module a kind, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.support.provider_servers.http_gateway import http_gateway_server
from tests.support.provider_servers.interface import ProviderServer
from tests.support.provider_servers.ntfy import ntfy_server
from tests.support.provider_servers.slack import slack_server
from tests.support.provider_servers.smtp import smtp_server
from tests.support.provider_servers.telegram import telegram_server
from tests.support.provider_servers.telnyx import telnyx_server
from tests.support.provider_servers.twilio import twilio_server

PROVIDER_SERVERS: dict[str, Callable[[], AbstractContextManager[ProviderServer]]] = {
    "smtp": smtp_server,
    "ntfy": ntfy_server,
    "slack": slack_server,
    "telegram": telegram_server,
    "twilio": twilio_server,
    "telnyx": telnyx_server,
    "http_gateway": http_gateway_server,
}
