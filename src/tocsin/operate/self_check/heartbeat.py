"""The external heartbeat: a ping to a service that raises an alarm when pings stop."""

from __future__ import annotations

from datetime import timedelta

import httpx

from tocsin.core.net.egress import tls_context
from tocsin.core.reasons import NO_REASON, Reason, ReasonType

#: For each part of the request.
TIMEOUT = timedelta(seconds=5)

_TIMED_OUT = ReasonType("heartbeat.timed_out", "no answer within {timeout}")
_NOT_CALLED = ReasonType("heartbeat.not_called", "the request failed ({error})")
STATUS = ReasonType("heartbeat.status", "the response status was {status}")


def ping(url: str) -> Reason:
    """Pings `url`. Returns why that failed, as part of a sentence that never contains the URL; `NO_REASON` on success.

    The URL comes from the environment, so it may be a private address.
    """
    try:
        with httpx.Client(timeout=TIMEOUT.total_seconds(), verify=tls_context(), follow_redirects=True) as client:
            response = client.get(url)
    except httpx.TimeoutException:
        return _TIMED_OUT(timeout=TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return _NOT_CALLED(error=type(error).__name__)
    return NO_REASON if response.is_success else STATUS(status=str(response.status_code))
