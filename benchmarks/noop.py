"""An ASGI app that reads the body and answers 200 with nothing, on the server that Tocsin uses."""

from __future__ import annotations

from tocsin.core.net.asgi import AsgiScope, Receive, Send
from tocsin.core.net.http_server import listen, make_server


async def app(scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Answers nothing."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    socket = listen("127.0.0.1", 0)
    port = socket.getsockname()[1]
    ready = lambda: print(f"ready http://127.0.0.1:{port}", flush=True)  # noqa: E731
    make_server(app, graceful_timeout=1, on_ready=ready, on_exit=lambda: None).run(sockets=[socket])
