"""The open file limit: raised at startup and checked by the doctor."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.support.http_server import read_answer
from tocsin.core.net import http_server
from tocsin.operate.checks import machine

_PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
from tests.support.http_server import read_answer
from tocsin.core.net import http_server as descriptors
print(descriptors.attainable())
descriptors.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], descriptors.max_connections(), descriptors.are_scarce(900))
"""


@pytest.mark.parametrize(("hard", "message"), [(1_024, "1024\n1024 640 True\n"), (3_000, "3000\n3000 2000 False\n")])
def test_the_soft_limit_is_raised_to_the_hard_limit(hard: int, message: str) -> None:
    program = _PROGRAM.replace("{hard}", str(hard))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == message


def test_the_doctor_names_the_remedy_for_too_low_a_limit() -> None:
    (finding,) = machine.open_files(1_024)
    assert finding.is_problem
    assert "limit is 1,024," in str(finding.detail)
    assert "LimitNOFILE=65536" in str(finding.remedy)
    assert not list(machine.open_files(http_server.REQUIRED))


_SERVER = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from tests.support.http_server import read_answer
from tocsin.core.net import http_server as descriptors
descriptors.raise_limit()
from tocsin.core.net.http_server import listen, make_server

async def app(scope, receive, send):
    opened = [open("/dev/null") for _ in range(16)]
    body = str(len(opened)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body})

socket = listen("127.0.0.1", 0)
port = socket.getsockname()[1]
server = make_server(app, graceful_timeout=1, on_ready=lambda: print(port, flush=True), on_exit=lambda: None)
server.run(sockets=[socket])
"""


def test_a_sender_is_answered_while_idle_connections_want_all_descriptors() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True) as server,
        ExitStack() as all_,
    ):
        all_.callback(server.kill)
        assert server.stdout is not None
        address = ("127.0.0.1", int(server.stdout.readline()))
        for _ in range(300):
            all_.enter_context(socket.create_connection(address, timeout=10)).sendall(b"P")
        sender = all_.enter_context(socket.create_connection(address, timeout=10))
        sender.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(sender).endswith(b"\r\n\r\n16")
