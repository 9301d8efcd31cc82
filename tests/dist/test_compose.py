"""The compose files: read and, for one node, carried out by a real client of compose; two nodes behind Caddy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import bring
import pytest
import yaml

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
    podman.shell("docker compose down --volumes --timeout 30", folder=folder, tools=tools)


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


@pytest.fixture
def pair(podman: Podman, image: str) -> Iterator[tuple[str, list[Container]]]:
    """The address of Caddy, and the two nodes behind it, on a PostgreSQL of their own."""
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("Caddy is not installed")
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
        proxy = subprocess.Popen(
            [caddy, "run", "--config", COMPOSE / "Caddyfile", "--adapter", "caddyfile"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=(home / "caddy.log").open("wb"),
            env={
                "PATH": os.environ["PATH"], "HOME": str(home), "TOCSIN_HOST": url,
                "TOCSIN_NODES": " ".join(f"127.0.0.1:{port}" for port in ports),
            },
        )  # fmt: skip
        try:
            for node in nodes:
                node.wait_until_ready()
            until("Caddy knows a node that is ready", lambda: _asks(url, "/readyz") == 200, 60)
            yield url, nodes
        finally:
            proxy.terminate()
            proxy.wait(20)
            podman.call("rm", "--force", "--time=5", *(node.identity for node in nodes), check=False)


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
