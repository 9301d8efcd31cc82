"""What the benchmarks share: a real `tocsin serve` on its own data directory, a no-op server, wrk, the report."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

from tocsin.core.embedded_server import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent
TOCSIN = Path(sys.executable).parent / "tocsin"
TOKEN = "0123456789abcdef0123456789abcdef"

#: How long each measurement runs. `make test-all` runs each script once with SHORT, so that it stays runnable.
SECONDS = int(os.environ.get("TOCSIN_TEST_BENCH_SECONDS", "10"))

CONFIGURATION = """
users:
{users}
groups:
  - name: Desk
    members:
{members}
escalation_policies:
  - name: Later
    steps:
      - {{notify: {{roles: [primary]}}, after: 1h}}
  - name: Now
    steps:
      - {{notify: {{roles: [primary]}}, after: 0m}}
integrations:
  - name: HaloITSM
    kind: haloitsm
    escalation_policy: {policy}
    recipients: {{groups: [Desk]}}
    token: {token}
  - name: API
    kind: api
    anyway: true
    mapping: {{recipient_users: to, source_id: id, subject: subject}}
    token: {token}api
"""

#: The token of the integration of kind `api`, which pages whom the message names in `to`.
API_TOKEN = f"{TOKEN}api"


@dataclass(frozen=True, slots=True)
class Served:
    """A running server: where it is, and its process."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]

    def resident_mb(self) -> float:
        """Resident memory of Tocsin's processes, PostgreSQL aside, in MB; what they share counts once."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        children = [pid for task in tasks for pid in (task / "children").read_text().split()]
        return sum(_shared_out_mb(pid) for pid in (str(self.process.pid), *children))


def _shared_out_mb(pid: str) -> float:
    """A process's share of the memory that it and others have resident (PSS), in MB; none of PostgreSQL's."""
    if b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]:
        return 0.0
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(match.group(1)) / 1024 if match else 0.0


@contextmanager
def tocsin(
    *,
    policy: str = "Later",
    environment: Mapping[str, str] | None = None,
    users: int = 1,
    more: str = "",
    method: str = "label: Email, channel: email, address: user{n}@example.org",
) -> Iterator[Served]:
    """`tocsin serve` with a HaloITSM integration behind TOKEN; fsync is on, as it always is.

    `more` is a second file of configuration: what a benchmark has besides. `method` is the contact method of the nth
    user.
    """
    home = Path(tempfile.mkdtemp(prefix="tocsin-bench-"))
    home.chmod(0o755)
    variables = variables_of(home / "data") | dict(environment or {})
    configuration = home / "bench.yaml"
    configuration.write_text(
        CONFIGURATION.format(
            policy=policy,
            token=TOKEN,
            users="\n".join(
                f"  - {{username: user{n}, email: user{n}@example.org, contact_methods: [{{{method.format(n=n)}}}]}}"
                for n in range(users)
            ),
            members="\n".join(f"      - {{user: user{n}, roles: [primary]}}" for n in range(users)),
        )
    )
    files = [configuration]
    if more:
        files.append(home / "more.yaml")
        files[-1].write_text(more)
    process = subprocess.Popen(
        [TOCSIN, "serve", "--port", "0"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=(home / "serve.log").open("w"),
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        if not ready.startswith("ready "):
            raise RuntimeError((home / "serve.log").read_text())
        subprocess.run([TOCSIN, "apply", *files], env=variables, check=True, stdout=subprocess.DEVNULL)
        yield Served(ready.split()[1].strip(), home / "data", process)
    finally:
        end(process)
        shutil.rmtree(home, ignore_errors=True)


def variables_of(data_dir: Path) -> dict[str, str]:
    """The environment of a Tocsin on `data_dir`, without what this process itself is told."""
    stored = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    return stored | {"TOCSIN_DATA_DIR": str(data_dir)}


@contextmanager
def sign_in(served: Served) -> Iterator[httpx.Client]:
    """A browser's session of an administrator, made for it."""
    password = secrets.token_hex(12)
    subprocess.run(
        [TOCSIN, "user", "create", "reader", "--email", "reader@example.org", "--role", "admin", "--password-stdin"],
        input=password,
        text=True,
        check=True,
        env=variables_of(served.data_dir),
        stderr=subprocess.DEVNULL,
    )
    with httpx.Client(base_url=served.url, follow_redirects=True, timeout=30) as client:
        page = client.get("/account/login/").text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token is not None
        form = {"csrfmiddlewaretoken": token.group(1), "login": "reader", "password": password}
        client.post("/account/login/", data=form, headers={"Origin": served.url}).raise_for_status()
        yield client


@contextmanager
def database(served: Served) -> Iterator[psycopg.Connection]:
    """A connection to the server's embedded PostgreSQL, without a limit to how long a statement may take."""
    server = EmbeddedPostgres(served.data_dir)
    with server, psycopg.connect(server.start(), autocommit=True) as connection:
        yield connection


def api_token(served: Served) -> str:
    """A token of the administrator whom `sign_in` made."""
    made = subprocess.run(
        [TOCSIN, "token", "create", "--user", "reader", "--name", "Benchmark", "--scope", "admin"],
        check=True, capture_output=True, text=True, env=variables_of(served.data_dir),
    )  # fmt: skip
    return made.stdout.strip()


@contextmanager
def noop() -> Iterator[str]:
    """The same HTTP server with an app that reads the body and answers nothing: what the ratio is taken of."""
    process = subprocess.Popen([sys.executable, ROOT / "benchmarks" / "noop.py"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[1].strip()
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Asks the process to stop, and kills it after 30 seconds."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk saw."""

    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def wrk(url: str, script: str, *, connections: int = 64, seconds: int = SECONDS) -> Rate:
    """Runs wrk with one thread and a Lua script. Raises RuntimeError where wrk is not installed."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not here: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", file.name, url],
            check=True,
            capture_output=True,
            text=True,
        )
    troubles = re.findall(r"(?:Non-2xx or 3xx responses|connect|read|write|timeout):? (\d+)", done.stdout)
    return Rate(
        float(_number(r"Requests/sec:\s+([\d.]+)", done.stdout)),
        _milliseconds(_number(r"50%\s+([\d.]+\w+)", done.stdout)),
        _milliseconds(_number(r"99%\s+([\d.]+\w+)", done.stdout)),
        sum(int(one) for one in troubles),
    )


def _number(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk said something else: {text}")
    return match.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def halo_script(*, size: int, new: bool = True) -> str:
    """A wrk script that posts HaloITSM messages of about `size` bytes; each of a ticket of its own if `new`."""
    ticket = {
        "id": "@ID@",
        "summary": "Zürich: VPN down for 40 users",
        "details": "VPN gateway zrh-vpn-01 is not responding.",
        "status": {"id": 1, "name": "New"},
        "priority": {"id": 1, "name": "Critical"},
        "tickettype": {"id": 1, "name": "Incident"},
        "client_id": 12,
        "client_name": "Acme Corp",
        "site_name": "Zürich",
        "user_name": "José Ångström",
        "team": "1st Line Support",
        "agent_id": 1,
        "category_1": "Network>VPN",
        "respondbydate": "2026-11-24T09:29:58.91",
        "fixbydate": "2026-11-24T13:14:58.91",
        "hasbeenclosed": False,
        "dateclosed": "1900-01-01T00:00:00",
        "customfields": [{"id": 101, "name": "CFaffectedUsers", "label": "Affected users", "value": "40"}],
    }
    body = {
        "id": "@GUID@",
        "webhook_id": "53232637-7724-4a19-b126-3c7267a292aa",
        "event": "new ticket logged",
        "message": "A new Ticket has been logged.",
        "object_id": "@ID@",
        "agent_id": 1,
        "timestamp": "2026-11-24T09:15:02.1234567Z",
        "ticket": ticket,
    }
    lacking = size - len(json.dumps(body, ensure_ascii=False).encode())
    ticket["details"] += " " + "x" * max(0, lacking)
    text = json.dumps(body, ensure_ascii=False).replace('"@ID@"', "%d").replace("@GUID@", "%s")
    identity = "thread_base + counter" if new else "1"
    return f"""
counter = 0
threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("thread_base", threads * 100000000 + {time.time_ns() // 1_000_000_000 % 1000} * 100000)
end
local template = [==[{text}]==]
function request()
  counter = counter + 1
  local id = {identity}
  local guid = string.format("0d0c6f1e-2b7a-4d7b-%04x-%012x", thread_base % 65536, thread_base * 1000 + counter)
  return wrk.format("POST", nil, {{["Content-Type"] = "application/json"}}, string.format(template, guid, id, id))
end
"""


def report(name: str, figures: Mapping[str, object], promises: Mapping[str, bool] | None = None) -> None:
    """Prints the figures as JSON and as a table, and names the machine."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"benchmark": name, "machine": machine, **figures, "promises": dict(promises or {})}))
    print(f"\n{name} ({machine})")
    for key, value in figures.items():
        shown = f"{value:,.1f}" if isinstance(value, float) else value
        print(f"  {key:<44} {shown}")
    for key, kept in (promises or {}).items():
        print(f"  {'kept  ' if kept else 'MISSED'} {key}")
