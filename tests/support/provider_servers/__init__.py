"""Every kind of provider with a server behind it, for the conformance test: one module a kind, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.support.provider_servers.http_gateway import http_gateway_bench
from tests.support.provider_servers.interface import Bench
from tests.support.provider_servers.ntfy import ntfy_bench
from tests.support.provider_servers.slack import slack_bench
from tests.support.provider_servers.smtp import smtp_bench
from tests.support.provider_servers.telegram import telegram_bench
from tests.support.provider_servers.telnyx import telnyx_bench
from tests.support.provider_servers.twilio import twilio_bench

BENCHES: dict[str, Callable[[], AbstractContextManager[Bench]]] = {
    "smtp": smtp_bench,
    "ntfy": ntfy_bench,
    "slack": slack_bench,
    "telegram": telegram_bench,
    "twilio": twilio_bench,
    "telnyx": telnyx_bench,
    "http_gateway": http_gateway_bench,
}
