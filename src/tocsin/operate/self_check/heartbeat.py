"""The ping to the outside that Tocsin lives. Whoever does not hear it any more raises an alarm."""

from __future__ import annotations

import httpx

from tocsin.core.net.egress import tls_context

#: In seconds, for each part of the call.
TIMEOUT = 5.0


def ping(url: str) -> str:
    """Calls `url`. Returns why that failed, as half a sentence that never holds the address; empty when it was taken.

    The address is given by the environment, so it may be a private one.
    """
    try:
        with httpx.Client(timeout=TIMEOUT, verify=tls_context(), follow_redirects=True) as client:
            answer = client.get(url)
    except httpx.TimeoutException:
        return f"it gave no answer within {TIMEOUT:.0f} seconds"
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return f"it cannot be called ({type(error).__name__})"
    return "" if answer.is_success else f"it answered {answer.status_code}"
