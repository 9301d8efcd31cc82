"""The image as administrators run it: read-only, without privileges, stopped, killed and given bad input."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.doubles.pgbouncer import pgbouncer
from tests.prove.bench import free_port, short_folder
from tests.support.installation import CONFIGURATION, HALO_TOKEN, ask, ticket, until
from tests.support.podman import Container, Podman
from tocsin.core.embedded_postgres.lifecycle import EmbeddedPostgres

pytestmark = pytest.mark.long

#: What the image may take unpacked, and how long its first start may take on a machine without other work.
MAX_BYTES, MAX_SECONDS = 350_000_000, 6.0


@pytest.fixture
def node(podman: Podman, image: str, volume: Path) -> Iterator[tuple[Container, str]]:
    """A node on a new volume, and its address."""
    port = free_port()
    container = podman.run(image, "serve", "--port", str(port), mounts=(f"{volume}:/data",))
    yield container, f"http://127.0.0.1:{port}"
    podman.call("rm", "--force", "--time=20", container.identity, check=False)


def test_image_is_small(podman: Podman, image: str, record_testsuite_property: Callable[[str, object], None]) -> None:
    mounted = podman.call("image", "mount", image).stdout.strip()
    files = (path for path in Path(mounted).rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(path.stat().st_size for path in files)
    record_testsuite_property("image_bytes", size)
    assert size <= MAX_BYTES


def test_image_has_no_package_installer_and_no_compiler(podman: Podman, image: str) -> None:
    mounted = Path(podman.call("image", "mount", image).stdout.strip())
    folders = [mounted / folder for folder in ("usr/bin", "usr/sbin", "opt/tocsin/bin")]
    programs = {path.name for folder in folders for path in folder.glob("*")}
    assert {"pip", "pip3", "gcc", "cc", "curl", "wget"} & programs == set()
    assert list(mounted.glob("opt/tocsin/lib/python3*/site-packages/pip*")) == []


def test_first_start_is_quick_and_the_page_is_shown(
    node: tuple[Container, str], record_testsuite_property: Callable[[str, object], None]
) -> None:
    container, url = node
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    seconds = container.wait_until_ready()
    record_testsuite_property("image_first_start_seconds", seconds)
    record_testsuite_property("load", load)
    assert seconds <= MAX_SECONDS * max(1.0, load)
    page = httpx.get(f"{url}/", follow_redirects=True, timeout=60)
    assert page.status_code == 200
    assert "<title>" in page.text
    assert container.execute("tocsin", "probe", "--port", url.rpartition(":")[2]).stdout == "ok\n"
    assert container.execute("id", "-u").stdout == "10001\n"


def _configure(container: Container, volume: Path) -> None:
    (volume / "tocsin.yaml").write_text(CONFIGURATION)
    container.execute("tocsin", "apply", "/data/tocsin.yaml")


def _post(url: str, number: int) -> bool:
    """Whether the message was accepted."""
    try:
        return ask("POST", f"{url}/in/{HALO_TOKEN}", ticket(number)).status in (200, 202)
    except OSError:
        return False


def _alerts(container: Container, url: str) -> set[str]:
    """The tickets of all alerts."""
    made = container.execute("tocsin", "token", "create", "--user", "carol", "--name", "test", "--scope", "read")
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    found: set[str] = set()
    address = f"{url}/api/v1/alerts?limit=500"
    while address:
        answer = ask("GET", address, headers=headers).json()
        found |= {str(item["subject"]) for item in answer["items"]}
        address = f"{url}/api/v1/alerts?limit=500&cursor={answer['next']}" if answer["next"] else ""
    return found


def test_restart_keeps_alerts_and_a_kill_loses_none(node: tuple[Container, str], volume: Path) -> None:
    container, url = node
    container.wait_until_ready()
    _configure(container, volume)
    assert _post(url, 1)
    assert container.stop() == 0
    container.start()
    container.wait_until_ready()
    with ThreadPoolExecutor(4) as pool:
        results = [(number, pool.submit(_post, url, number)) for number in range(2, 200)]
        until("half of them are stored", lambda: sum(result.done() for _, result in results) >= 100)
        container.kill()
        accepted = {number for number, result in results if result.result()} | {1}
    assert len(accepted) >= 50
    container.start()
    container.wait_until_ready()
    titles = " ".join(_alerts(container, url))
    assert {number for number in accepted if f"VPN {number} down" not in titles} == set()


def test_any_user_may_run_it_who_owns_the_volume(podman: Podman, image: str, volume: Path) -> None:
    subprocess.run(["chown", "12345:0", volume], check=True)
    container = podman.run(image, "serve", "--port", str(free_port()), mounts=(f"{volume}:/data",), user="12345:0")
    container.wait_until_ready()
    assert {path.stat().st_uid for path in volume.rglob("*")} == {12345}
    assert container.stop() == 0


def _ends_at_once(podman: Podman, image: str, *mounts: str, lines: int = 1, **environment: str) -> str:
    """What a node that cannot start writes; it ends within seconds, with exit status 1."""
    container = podman.run(image, mounts=mounts, environment=environment)
    assert podman.call("wait", container.identity).stdout.strip() == "1"
    assert len(container.logs().splitlines()) == lines, container.logs()
    return container.logs()


def test_volume_of_another_user_says_how_to_give_it_away(podman: Podman, image: str, tmp_path: Path) -> None:
    said = _ends_at_once(podman, image, f"{tmp_path}:/data")
    assert "The data directory /data belongs to root." in said
    assert "chown -R 10001 /data" in said
    assert list(tmp_path.iterdir()) == []


def test_read_only_volume_is_named(podman: Podman, image: str, volume: Path) -> None:
    said = _ends_at_once(podman, image, f"{volume}:/data:ro")
    assert "Tocsin cannot use /data as (part of) its data directory: Read-only file system." in said


def test_unreadable_secret_key_is_named(podman: Podman, image: str, volume: Path) -> None:
    key = volume / "secret.key"
    key.write_text("k" * 40)
    key.chmod(0o600)
    said = _ends_at_once(podman, image, f"{volume}:/data")
    assert "/data/secret.key cannot be read: Permission denied." in said
    assert "chown 10001 /data/secret.key" in said
    assert list(volume.iterdir()) == [key]


def test_volume_without_space_is_left_empty(podman: Podman, image: str, volume: Path) -> None:
    options = "size=1200k,uid=10001,gid=10001,mode=0711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", volume], check=True)
    try:
        said = _ends_at_once(podman, image, f"{volume}:/data")
        assert "PostgreSQL needs 128 MB in /data/postgres/18 to start, and 1 MB are free." in said
        assert "Free up space" in said
        assert list(volume.iterdir()) == []
    finally:
        subprocess.run(["umount", volume], check=True)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://tocsin@db/tocsin", "TOCSIN_DATABASE_URL must look like postgresql://"),
        ("postgresql://tocsin:p@ss@db/tocsin", "is percent-encoded: @ is %40"),
    ],
)
def test_wrong_database_url_is_explained(podman: Podman, image: str, volume: Path, url: str, problem: str) -> None:
    assert problem in _ends_at_once(podman, image, f"{volume}:/data", TOCSIN_DATABASE_URL=url)


def test_data_of_a_newer_postgresql_is_left_alone(podman: Podman, image: str, volume: Path) -> None:
    newer = volume / "postgres" / "99" / "data"
    newer.mkdir(parents=True)
    (newer / "PG_VERSION").write_text("99\n")
    subprocess.run(["chown", "-R", "10001:10001", volume], check=True)
    said = _ends_at_once(podman, image, f"{volume}:/data")
    assert "99" in said
    assert "tocsin restore" in said or "backup" in said
    assert sorted(volume.rglob("*")) == [newer.parents[1], newer.parent, newer, newer / "PG_VERSION"]


#: A next version, of whose migrations the second fails: tests/upgrade.
NEXT = f"{Path(__file__).resolve().parents[1]}/upgrade:/opt/next/tests/upgrade:ro"
BROKEN_SETTINGS = {"PYTHONPATH": "/opt/next", "DJANGO_SETTINGS_MODULE": "tests.upgrade.broken_settings"}


def _use(podman: Podman, image: str, volume: Path) -> None:
    """Makes a database in the volume, and ends the node."""
    container = podman.run(image, "serve", "--port", str(free_port()), mounts=(f"{volume}:/data",))
    container.wait_until_ready()
    assert container.stop() == 0


def test_half_upgraded_database_names_the_step_and_the_way_on(podman: Podman, image: str, volume: Path) -> None:
    _use(podman, image, volume)
    # First comes the warning that names the backup.
    said = _ends_at_once(podman, image, f"{volume}:/data", NEXT, lines=2, **BROKEN_SETTINGS)
    assert "stopped at operate.0003_broken" in said
    assert "tocsin restore --force FILE" in said
    again = _ends_at_once(podman, image, f"{volume}:/data", NEXT, lines=2, **BROKEN_SETTINGS)
    assert "stopped at operate.0003_broken" in again
    assert "newer Tocsin's" in _ends_at_once(podman, image, f"{volume}:/data")


def test_pooler_in_transaction_mode_is_refused_for_migrations(podman: Podman, image: str, volume: Path) -> None:
    with short_folder() as home, EmbeddedPostgres(home / "data") as embedded, pgbouncer(embedded.start()) as pooled:
        parts = conninfo_to_dict(pooled)
        url = f"postgresql://{parts['user']}@127.0.0.1:{parts['port']}/{parts['dbname']}"
        said = _ends_at_once(podman, image, f"{volume}:/data", TOCSIN_DATABASE_URL=url)
        assert "connection pooler in transaction mode" in said
        assert "Nothing was changed" in said
        with psycopg.connect(embedded.start()) as connection:
            assert connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
