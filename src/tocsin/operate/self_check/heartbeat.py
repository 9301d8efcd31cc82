"""The external heartbeat: a ping to a service that raises an alarm when pings stop."""

from __future__ import annotations

import httpx

from tocsin.core.net.egress import tls_context

#: In seconds, for each part of the request.
TIMEOUT = 5.0


def ping(url: str) -> str:
    """Pings `url`. Returns why that failed, as part of a sentence that never contains the URL; empty on success.

    The URL comes from the environment, so it may be a private address.
    """
    try:
        with httpx.Client(timeout=TIMEOUT, verify=tls_context(), follow_redirects=True) as client:
            response = client.get(url)
    except httpx.TimeoutException:
        return f"it gave no answer within {TIMEOUT:.0f} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"it cannot be called ({type(error).__name__})"
    return "" if response.is_success else f"it answered {response.status_code}"
