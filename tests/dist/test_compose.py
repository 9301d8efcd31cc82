"""The compose files: read and, for one node, carried out by a real client of compose; two nodes behind Caddy."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import bring
import httpx
import pytest
import yaml
from builders import debian_base

from tests.doubles.http import Request, Response, http_double
from tests.doubles.smtp import SmtpDouble
from tests.prove.bench import free_port, short_folder
from tests.prove.worlds import configured_installation, own_postgres
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION, HALO_TOKEN, ask, ticket, until
from tests.support.podman import Container, Podman
from tests.support.upgrade_walk import VERSION, is_ready, pages, post
from tocsin.core.config import crypto

pytestmark = pytest.mark.long

COMPOSE = Path(__file__).resolve().parents[2] / "packaging" / "compose"


@pytest.mark.parametrize("file", ["compose.yaml", "compose.ha.yaml"])
def test_compose_client_reads_the_file(file: str) -> None:
    folder = bring.dist_tools(bring.uv())
    done = subprocess.run(
        [sys.executable, "-m", "podman_compose", "--file", COMPOSE / file, "config"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "TOCSIN_HOST": "tocsin.example.org"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)
    written = yaml.safe_load((COMPOSE / file).read_text())
    assert set(read["services"]) == set(written["services"])
    for service in read["services"].values():
        assert "${" not in str(service)


def test_secrets_are_made_once_and_fit_together(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([COMPOSE / "secrets.sh"], cwd=tmp_path, check=True)
    secrets = tmp_path / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(before) == {"database-url", "postgres-password", "secret-key"}
    assert f":{before['postgres-password']}@postgres:5432/" in before["database-url"]
    assert len(before["secret-key"]) == 64
    subprocess.run([COMPOSE / "secrets.sh"], cwd=tmp_path, check=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before


type Run = Callable[..., str]


@pytest.fixture
def run(podman: Podman, network_mails: SmtpDouble, tmp_path: Path) -> Iterator[Run]:
    """Runs commands of the page in a folder with the files; returns what they wrote."""
    folder = shutil.copytree(COMPOSE, tmp_path / "compose")
    tools = bring.dist_tools(bring.uv())
    yield lambda *lines, typed="": podman.shell(*lines, folder=folder, tools=tools, typed=typed)
    stop = "TOCSIN_HOST=localhost docker compose --file {} down --volumes --timeout 30"
    podman.shell(*(stop.format(file) for file in ("compose.yaml", "compose.ha.yaml")), folder=folder, tools=tools)


def test_page_starts_one_node_that_pages(run: Run, network_mails: SmtpDouble) -> None:
    mails, ((start, logs), settings) = network_mails, commands("compose", "One node", VERSION)
    mail = [f"TOCSIN_SMTP_URL={mails.url}", "TOCSIN_EMAIL_FROM=tocsin@example.org"]
    run("cat > .env", typed="\n".join([*(line for line in settings if "BASE_URL" in line), *mail]))
    run(start)
    url = "http://127.0.0.1:8686"
    until("Tocsin is ready", lambda: is_ready(url), 240)
    assert "Make the first administrator: https://tocsin.example.org/setup/" in run(logs)
    run("docker compose exec -T tocsin tocsin apply /dev/stdin", typed=CONFIGURATION)
    alert = post(url, 1)
    until("Alice is paged", lambda: pages(mails) == [alert], 120)


#: Stands in for Docker's official image, with Debian's PostgreSQL: https://hub.docker.com/_/postgres
_POSTGRES = """#!/bin/sh
set -eu
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
data=/var/lib/postgresql/18/docker
install -d -o postgres -g postgres /run/postgresql
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -e $data/PG_VERSION ]; then
    install -d -o postgres -g postgres -m 0700 $data
    cat "$POSTGRES_PASSWORD_FILE" > /tmp/password
    chown postgres /tmp/password
    as initdb --pgdata=$data --username="$POSTGRES_USER" --pwfile=/tmp/password \\
        --auth-local=trust --encoding=UTF8 --locale=C.UTF-8 > /dev/null
    echo "host all all all scram-sha-256" >> $data/pg_hba.conf
    as pg_ctl --pgdata=$data --wait --silent --options="-c listen_addresses=" start
    as createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    as pg_ctl --pgdata=$data --wait --silent stop
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D $data -c listen_addresses="*"
"""

_CADDY = """#!/bin/sh
export XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config
exec caddy run --config /etc/caddy/Caddyfile --adapter caddyfile
"""


def caddy_program() -> Path:
    """Caddy of the version that the images have: Debian's is older."""
    return bring.dist_tools(bring.uv()) / "bin" / "caddy"


@pytest.fixture(scope="session")
def others_images(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The images of PostgreSQL and Caddy that the file names, on Debian's packages."""
    images: dict[str, tuple[str, tuple[str, ...], list[Path]]] = {
        "postgres:18": (_POSTGRES, ("postgresql",), []),
        "caddy:2": (_CADDY, (), [caddy_program()]),
    }
    for name, (script, packages, programs) in images.items():
        service = name.partition(":")[0]
        start = tmp_path_factory.mktemp(service) / "start"
        start.write_text(script)
        start.chmod(0o755)
        podman.call("import", debian_base.make(service, ("ca-certificates", *packages)), f"localhost/{service}-base")
        podman.call("create", "--name=made", f"localhost/{service}-base", "/start")
        for program in [start, *programs]:
            podman.call("cp", program, f"made:/usr/bin/{program.name}")
        podman.call("commit", '--change=ENTRYPOINT ["/usr/bin/start"]', "made", f"docker.io/library/{name}")
        podman.call("rm", "made")


@pytest.mark.usefixtures("others_images")
def test_page_starts_two_nodes_of_which_one_may_stop(
    run: Run, network_mails: SmtpDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets, host, start, logs = commands("compose", "Two nodes behind Caddy", VERSION)[0]
    mail = [f"TOCSIN_SMTP_URL={network_mails.url}", "TOCSIN_EMAIL_FROM=tocsin@example.org"]
    # For a name of this machine alone Caddy signs the certificate itself.
    run(secrets, host.replace("tocsin.example.org", "localhost"))
    run("cat >> .env", typed="\n".join(mail))
    run(start)
    compose = start.partition(" up ")[0]
    until("Caddy listens", lambda: _listens(443), 120)
    authority = tmp_path / "root.crt"
    authority.write_text(run(f"{compose} exec -T caddy cat /data/caddy/pki/authorities/local/root.crt"))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    url = "https://localhost"
    until("Caddy knows a node that is ready", lambda: _asks(url, "/readyz") == 200, 240)
    assert "Make the first administrator: https://localhost/setup/" in run(logs)
    run(f"{compose} exec -T node-1 tocsin apply /dev/stdin", typed=CONFIGURATION)
    first = post(url, 1)
    until("Alice is paged", lambda: pages(network_mails) == [first], 120)
    assert "Sign in" in ask("GET", f"{url}/account/login/", seconds=120).text
    start_first, start_second = commands("compose", "Upgrade", VERSION)[0]

    def stop(node: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            assert set(posts_until(pool.submit(run, f"{compose} stop {node}"), url)) == {first}

    stop("node-1")
    second = post(url, 2)
    until("node-2 pages", lambda: pages(network_mails) == [first, second], 120)
    run(start_first)
    stop("node-2")
    third = post(url, 3)
    until("node-1 pages", lambda: pages(network_mails) == [first, second, third], 120)
    run(start_second)


def posts_until(ended: Future[str], url: str) -> Iterator[int]:
    """The alert's number for each message about the same ticket, which is stored and pages nobody."""
    for _ in range(3_000):
        yield post(url, 1)
        if ended.done():
            break
    ended.result()


@pytest.fixture
def pair(podman: Podman, image: str) -> Iterator[tuple[str, list[Container]]]:
    """The address of Caddy, and the two nodes behind it, on a PostgreSQL of their own."""
    ports = [free_port(), free_port()]
    url = f"http://127.0.0.1:{free_port()}"
    with configured_installation() as configured, short_folder() as home, own_postgres(configured, home) as postgres:
        environment = {
            "TOCSIN_DATABASE_URL": postgres.url,
            "TOCSIN_SECRET_KEY": crypto.stored_key(configured.data_dir).strip(),
            "TOCSIN_BASE_URL": url,
            "TOCSIN_TRUSTED_PROXIES": "127.0.0.1",
        }
        nodes = [podman.run(image, "serve", "--port", str(port), environment=environment) for port in ports]
        try:
            with behind_caddy(url, ports, home):
                for node in nodes:
                    node.wait_until_ready()
                until("Caddy knows a node that is ready", lambda: _asks(url, "/readyz") == 200, 60)
                yield url, nodes
        finally:
            podman.call("rm", "--force", "--time=5", *(node.identity for node in nodes), check=False)


@contextmanager
def behind_caddy(url: str, ports: list[int], home: Path) -> Iterator[None]:
    """Caddy with the file of compose, before nodes on these ports of this machine."""
    proxy = subprocess.Popen(
        [caddy_program(), "run", "--config", COMPOSE / "Caddyfile", "--adapter", "caddyfile"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=(home / "caddy.log").open("wb"),
        env={
            "PATH": os.environ["PATH"], "HOME": str(home), "TOCSIN_HOST": url,
            "TOCSIN_NODES": " ".join(f"127.0.0.1:{port}" for port in ports),
        },
    )  # fmt: skip
    try:
        yield
    finally:
        proxy.terminate()
        proxy.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def _asks(url: str, path: str) -> int:
    try:
        return ask("GET", f"{url}{path}").status
    except OSError:
        return 0


def test_loss_of_a_node_loses_no_message(pair: tuple[str, list[Container]]) -> None:
    url, nodes = pair
    assert _asks(url, "/account/login/") == 200
    for number in range(1, 41):
        if number == 10:
            nodes[0].kill()
        response = ask("POST", f"{url}/in/{HALO_TOKEN}", ticket(number))
        assert response.status in (200, 202), f"{number}: {response.status} {response.text}"
    assert nodes[1].state("Status") == "running"
    assert _asks(url, "/readyz") == 200


@pytest.mark.parametrize("is_chunked", [False, True], ids=["of-known-length", "chunked"])
def test_message_whose_node_dies_reaches_another_whole(tmp_path: Path, is_chunked: bool) -> None:
    body, deaths = b"0123456789" * 20_000, itertools.chain([True], itertools.repeat(False))

    def answer(request: Request) -> Response:
        return Response(hangs_up=request.method == "POST" and next(deaths))

    url = f"http://127.0.0.1:{free_port()}"
    with http_double(answer) as one, http_double(answer) as other, behind_caddy(url, [one.port, other.port], tmp_path):
        until("Caddy knows a node that is ready", lambda: _asks(url, "/readyz") == 200, 60)
        content = map(bytes, itertools.batched(body, 1000)) if is_chunked else body
        response = httpx.post(f"{url}/in/token", content=content, timeout=30)
        posts = [request.body for request in one.requests + other.requests if request.method == "POST"]
    assert response.status_code == 200
    assert posts == [body, body]
