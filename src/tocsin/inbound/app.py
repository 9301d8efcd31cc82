"""ASGI app for webhooks (`POST /in/{token}`) and the compatible endpoints; runs without Django.

The token selects the integration; the body is read completely, decoded and passed to the committer; the response is
sent after the commit. `/in/{token}/test/{test token}` handles a sample in the same way, as a user's test.
"""

from __future__ import annotations

from tocsin.core.errors import Rejected
from tocsin.core.net.asgi import AsgiScope, BodyReader, ClientDisconnected, Receive, Send, send_error
from tocsin.core.runtime import clock
from tocsin.inbound import heartbeats, ingest_service, webhook_endpoint
from tocsin.inbound.compat import alertmanager, opsgenie, pagerduty
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.ingest_service import HttpError, IngestService
from tocsin.inbound.processing.committer import Committer

PREFIX = "/in/"

#: Path prefixes of webhooks and of the PagerDuty- and Opsgenie-compatible endpoints.
_PREFIXES = (PREFIX, *pagerduty.PATHS, *opsgenie.PREFIXES)
_TEST_PREFIX = f"{ingest_service.TEST_SEGMENT}/"

#: Codes of requests that name no integration.
_UNKNOWN_SENDER = ("unknown_token", "unauthenticated")

#: Methods that some kinds accept besides POST.
_EXTRA_METHODS = ("GET", "HEAD", "PUT")


def accepts(scope: AsgiScope) -> bool:
    return scope["path"].startswith(_PREFIXES) or alertmanager.accepts(scope)


class InboundApp:
    """The ASGI app for inbound webhooks and compatible endpoints."""

    def __init__(self, registry: IntegrationRegistry, committer: Committer, body_reader: BodyReader) -> None:
        self.service = IngestService(registry, committer, body_reader)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if path.startswith(PREFIX):
                await self._handle_webhook(scope, receive, send)
            elif (trimmed_path := path.rstrip("/")) in pagerduty.PATHS:
                await pagerduty.handle(self.service, {**scope, "path": trimmed_path}, receive, send)
            elif alertmanager.accepts(scope):
                await alertmanager.handle(self.service, scope, receive, send)
            else:
                await opsgenie.handle(self.service, scope, receive, send)
        except HttpError as error:
            if error.code in _UNKNOWN_SENDER and scope["method"] == "POST":
                self.service.refused_requests.count_unmatched(scope)
            if path.rstrip("/") in pagerduty.PATHS:
                await pagerduty.error_response(send, error)
            elif path.startswith(PREFIX):
                await send_error(send, error.status, error.code, error.detail, headers=error.headers)
            elif alertmanager.accepts(scope):
                await alertmanager.error_response(scope, send, error)
            else:
                await opsgenie.error_response(send, error)
        except ClientDisconnected:
            return

    async def _handle_webhook(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        token, separator, suffix = scope["path"][len(PREFIX) :].partition("/")
        method: str = scope["method"]
        if method not in ("POST", *_EXTRA_METHODS):
            raise ingest_service.post_needed()
        try:
            integration = await self.service.find_integration(token)
        except HttpError as error:
            # Responses to other methods must not reveal whether a token exists.
            raise (error if method == "POST" else ingest_service.post_needed()) from None
        if integration.normalizer.kind.name == heartbeats.KIND and not suffix.startswith(_TEST_PREFIX):
            await webhook_endpoint.handle_heartbeat(
                self.service, integration, suffix if separator else "beat", scope, receive, send
            )
            return
        if method != "POST" and not (
            method == "GET" and scope["query_string"] and integration.normalizer.kind.accepts_get
        ):
            raise ingest_service.post_needed()
        if separator and not suffix.startswith(_TEST_PREFIX):
            raise HttpError(404, "unknown_token", ingest_service.UNKNOWN_TOKEN())
        test = None
        if separator:
            try:
                test = ingest_service.check_test_token(suffix.removeprefix(_TEST_PREFIX), integration.id, clock.now())
            except Rejected as rejected:
                # Never handled as an ordinary message: that would page the integration's real recipients.
                raise HttpError(401, rejected.code, rejected.reason) from None
        await webhook_endpoint.handle(self.service, integration, scope, receive, send, test)
