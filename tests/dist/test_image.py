"""The image as administrators run it: read-only, without privileges, stopped and killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.prove.bench import free_port
from tests.support.installation import CONFIGURATION, HALO_TOKEN, ask, ticket, until
from tests.support.podman import Container, Podman, preferred_cgroup

pytestmark = pytest.mark.long

#: What the image may take unpacked, and how long its first start may take where other work does not hold it up.
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


def test_image_brings_traces_and_sign_in_by_saml(podman: Podman, image: str) -> None:
    mounted = Path(podman.call("image", "mount", image).stdout.strip())
    (packages,) = mounted.glob("opt/tocsin/lib/python3*/site-packages")
    assert all((packages / name).exists() for name in ("opentelemetry/sdk", "opentelemetry/exporter", "xmlsec"))


def test_first_start_is_quick_and_the_page_is_shown(
    podman: Podman, image: str, volume: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    port = str(free_port())
    with preferred_cgroup() as cgroup:
        container = podman.run(image, "serve", "--port", port, mounts=(f"{volume}:/data",), cgroup=cgroup)
        try:
            seconds = container.wait_until_ready()
            record_testsuite_property("image_first_start_seconds", seconds)
            record_testsuite_property("load", os.getloadavg()[0] / (os.cpu_count() or 1))
            assert seconds <= MAX_SECONDS
            page = httpx.get(f"http://127.0.0.1:{port}/", follow_redirects=True, timeout=60)
            assert page.status_code == 200
            assert "<title>" in page.text
            assert container.execute("tocsin", "probe", "--port", port).stdout == "ok\n"
            assert container.execute("id", "-u").stdout == "10001\n"
        finally:
            podman.call("rm", "--force", "--time=20", container.identity, check=False)


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
