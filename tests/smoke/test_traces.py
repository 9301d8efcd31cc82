"""One trace and one log from the webhook to the delivery, with real processes and a real OTLP receiver."""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.doubles.otlp import OtlpDouble, ReceivedSpan, otlp_double
from tests.doubles.smtp import SmtpDouble
from tests.support.installation import Installation, ticket, until

#: OpenTelemetry's numbers of span kinds.
CONSUMER, INTERNAL, CLIENT = 5, 1, 3


def spans_of(receiver: OtlpDouble, alert_id: int, count: int) -> dict[str, ReceivedSpan]:
    """The spans of an alert, by name, once there are so many."""

    def found() -> list[ReceivedSpan]:
        return [span for span in receiver.spans if span.attributes.get("tocsin.alert.id") == alert_id]

    until("the spans arrive", lambda: len(found()) >= count)
    return {span.name: span for span in found()}


def records(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_one_trace_leads_from_the_webhook_to_the_delivery(tocsin: Installation, mails: SmtpDouble) -> None:
    """The message arrives at one process, and another one decides and sends."""
    with otlp_double() as receiver:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "TOCSIN_LOG_FORMAT": "json",
        }
        worker = tocsin.serve("--role", "worker", **variables)
        tocsin.serve("--role", "ingest", **variables)
        opened = tocsin.post(ticket(20817)).json()
        until("Alice is mailed", lambda: mails.mails)
        spans = spans_of(receiver, opened["alert_id"], 3)
        (stored,) = tocsin.rows("SELECT id::text FROM inbound_inboundmessage")
        log = until("the log has the delivery", lambda: [one for one in records(worker.log) if "delivery_id" in one])

    message, escalation, delivery = spans["process HaloITSM"], spans["escalate"], spans["send email"]
    assert {span.trace_id for span in spans.values()} == {message.trace_id}
    assert (message.parent_id, escalation.parent_id, delivery.parent_id) == ("", message.span_id, message.span_id)
    assert (message.kind, escalation.kind, delivery.kind) == (CONSUMER, INTERNAL, CLIENT)
    assert message.attributes["messaging.message.id"] == stored["id"]
    assert message.attributes["tocsin.inbound_outcome"] == "Mapped Opened"
    assert escalation.attributes["tocsin.pages"] == 1
    assert not any(span.is_error or span.seconds < 0 for span in spans.values())
    assert message.resource["service.instance.id"] != delivery.resource["service.instance.id"]
    assert {key: delivery.resource[key] for key in ("service.name", "deployment.environment.name")} == {
        "service.name": "tocsin",
        "deployment.environment.name": "test",
    }
    assert "alice@example.org" not in str(receiver.spans)

    assert log[0]["trace_id"] == message.trace_id
    assert log[0]["alert_id"] == opened["alert_id"]
    assert log[0]["delivery_id"] == delivery.attributes["messaging.message.id"]
    assert "alice@example.org" not in worker.log


def test_pages_leave_while_no_receiver_answers(tocsin: Installation, mails: SmtpDouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, and never answers
        node = tocsin.serve(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}", OTEL_BSP_SCHEDULE_DELAY="100"
        )
        tocsin.post(ticket(1))
        until("Alice is mailed", lambda: mails.mails)
        assert node.terminate() == 0


def test_wrong_variable_of_opentelemetry_stops_nothing(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.serve(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY="soon")
    tocsin.post(ticket(1))
    until("Alice is mailed", lambda: mails.mails)
