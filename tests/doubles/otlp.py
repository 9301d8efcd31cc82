"""A receiver of OpenTelemetry's traces: OTLP over HTTP, decoded with the official protocol buffers."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tests.doubles.http import HttpDouble, Request, Response, http_double


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span as it arrived; ids in hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    seconds: float
    is_error: bool
    attributes: Mapping[str, object]
    resource: Mapping[str, object]


class OtlpDouble:
    """Keeps the spans that it gets."""

    def __init__(self, http: HttpDouble) -> None:
        self.http = http
        self.url = http.url

    @property
    def spans(self) -> list[ReceivedSpan]:
        return [span for request in self.http.requests for span in _decode(request)]


@contextmanager
def otlp_double(*, status: int = 200) -> Iterator[OtlpDouble]:
    """Runs a receiver that answers with that status."""
    with http_double(lambda _request: Response(status, b"")) as http:
        yield OtlpDouble(http)


def _decode(request: Request) -> Iterator[ReceivedSpan]:
    assert (request.method, request.path) == ("POST", "/v1/traces")
    body = gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _values(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
                yield ReceivedSpan(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    seconds,
                    span.status.code == span.status.STATUS_CODE_ERROR,
                    _values(span.attributes),
                    resource,
                )


def _values(attributes: Iterator[KeyValue]) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
