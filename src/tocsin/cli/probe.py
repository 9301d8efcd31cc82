"""`tocsin probe`: asks a node on this machine whether it is healthy, for containers without a shell or curl."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import Annotated

import typer

from tocsin.core.config.environment import DEFAULT_PORT
from tocsin.core.errors import Temporary
from tocsin.core.reasons import ReasonType

_NO_ANSWER = ReasonType("probe.no_answer", "Tocsin gives no answer at {address}: {error}.")
_NOT_OK = ReasonType("probe.not_ok", "Tocsin at {address} answers {status}: {text}")

#: In seconds. A readiness check takes up to four.
TIMEOUT = 8.0


def probe(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on which Tocsin listens.")] = DEFAULT_PORT,
    ready: Annotated[bool, typer.Option("--ready", help="Ask /readyz instead of /healthz.")] = False,
) -> None:
    """Check whether Tocsin on this machine is healthy.

    Prints ok. The exit status is 1 if it is not healthy, or gives no answer.
    """
    address = f"http://127.0.0.1:{port}/{'readyz' if ready else 'healthz'}"
    connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        response = connection.getresponse()
        text = response.read(1000).decode("utf-8", "replace").strip()
    except (OSError, HTTPException) as error:
        raise Temporary(_NO_ANSWER(address=address, error=str(error))) from error
    finally:
        connection.close()
    if response.status != 200:
        raise Temporary(_NOT_OK(address=address, status=response.status, text=text))
    typer.echo(text)
