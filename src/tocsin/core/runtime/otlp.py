"""Sends spans by OTLP over HTTP, with OpenTelemetry's SDK. Imported only if traces are on: the packages are an extra.

The SDK reads its own environment variables: address, headers, certificates, sampler, limits, resource attributes.
"""

from __future__ import annotations

import threading
from datetime import datetime

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

import tocsin
from tocsin.core.runtime.telemetry import Span

#: Seconds for what is left at the end.
CLOSE_TIMEOUT = 2.0

_KINDS = {kind.name: kind for kind in trace.SpanKind}


def make_exporter(node: str) -> OtlpExporter:
    """Returns the exporter of this process, which is `node`."""
    own = {"service.name": "tocsin", "service.version": tocsin.__version__, "service.instance.id": node}
    # The environment's names come first.
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    generator = _GivenIds()
    # Without the SDK's exit handler, which waits for the receiver.
    provider = TracerProvider(resource=resource, id_generator=generator, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return OtlpExporter(provider, generator)


class OtlpExporter:
    """Converts spans and queues them; the SDK's thread sends them, and drops what is too much."""

    def __init__(self, provider: TracerProvider, generator: _GivenIds) -> None:
        self._provider = provider
        self._generator = generator
        self._tracer = provider.get_tracer("tocsin", tocsin.__version__)

    def export(self, span: Span) -> None:
        """Queues a span."""
        ids = span.trace
        # As for the first span, so that a trace is exported as a whole.
        decision = self._provider.sampler.should_sample(None, ids.trace_id, span.name).decision
        is_sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
        parent = SpanContext(ids.trace_id, ids.root_id, is_remote=True, trace_flags=flags)
        context = Context() if span.is_root else set_span_in_context(NonRecordingSpan(parent))
        self._generator.next = (ids.trace_id, ids.root_id) if span.is_root else None
        recorded = self._tracer.start_span(
            span.name,
            context,
            _KINDS[span.kind],
            attributes=dict(span.attributes),
            start_time=_nanoseconds(span.began_at),
        )
        if span.error:
            recorded.set_attribute("error.type", span.error)
            recorded.set_status(trace.StatusCode.ERROR)
        recorded.end(_nanoseconds(span.ended_at))

    def close(self) -> None:
        """Sends what is left, for `CLOSE_TIMEOUT` seconds at most."""
        thread = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT)


class _GivenIds(IdGenerator):
    """Gives the next span of this thread the ids in `next`; otherwise random ones."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._local = threading.local()

    @property
    def next(self) -> tuple[int, int] | None:
        ids: tuple[int, int] | None = getattr(self._local, "ids", None)
        return ids

    @next.setter
    def next(self, ids: tuple[int, int] | None) -> None:
        self._local.ids = ids

    def generate_trace_id(self) -> int:
        return self.next[0] if self.next is not None else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        return self.next[1] if self.next is not None else self._random.generate_span_id()


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
