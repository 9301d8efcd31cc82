"""Every kind of provider with a server behind it, for the conformance test: one module a kind, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.unit.notify.benches.bench import Bench
from tests.unit.notify.benches.http_gateway import http_gateway_bench
from tests.unit.notify.benches.ntfy import ntfy_bench
from tests.unit.notify.benches.slack import slack_bench
from tests.unit.notify.benches.smtp import smtp_bench
from tests.unit.notify.benches.telegram import telegram_bench
from tests.unit.notify.benches.telnyx import telnyx_bench
from tests.unit.notify.benches.twilio import twilio_bench

BENCHES: dict[str, Callable[[], AbstractContextManager[Bench]]] = {
    "smtp": smtp_bench,
    "ntfy": ntfy_bench,
    "slack": slack_bench,
    "telegram": telegram_bench,
    "twilio": twilio_bench,
    "telnyx": telnyx_bench,
    "http_gateway": http_gateway_bench,
}
