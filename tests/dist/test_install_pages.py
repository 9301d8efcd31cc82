"""The pages about installation, tried word by word from the artefacts alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import bring
import pytest
from builders import container, python

from tests.doubles.smtp import SmtpDouble
from tests.support.clean_system import POST_AND_LOOK, SERVE, CleanSystem
from tests.support.install_pages import commands
from tests.support.installation import CONFIGURATION, HALO_TOKEN, ask, until
from tests.support.podman import Podman
from tests.support.upgrade_walk import NEXT_VERSION, VERSION, is_ready, post, upgrade_with_pages

pytestmark = pytest.mark.long

#: A system that reaches no index: pip and uv find the same packages in a folder. Root needs no sudo.
_OFFLINE = """
export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
export UV_OFFLINE=1 UV_NO_INDEX=1 UV_FIND_LINKS=/wheels PATH="$PATH:/root/.local/bin"
sudo() { "$@"; }
cd /root
"""


@pytest.fixture
def wheels(clean_system: CleanSystem, artefact: Callable[[str], list[Path]]) -> CleanSystem:
    """A clean system with the wheels, the constraints and uv."""
    context = artefact("context")[0]
    shutil.copytree(context / "wheels", clean_system.root / "wheels")
    # Tocsin's own is in the folder with the files of the release, as the page says, and in no index.
    (clean_system.root / "wheels" / python.wheel_name(VERSION)).rename(
        clean_system.root / "root" / python.wheel_name(VERSION)
    )
    shutil.copy(context / "constraints.txt", clean_system.root / "root" / python.constraints_name(VERSION))
    shutil.copy(bring.uv(), clean_system.root / "usr" / "local" / "bin" / "uv")
    (clean_system.root / "root" / "tocsin.yaml").write_text(CONFIGURATION)
    return clean_system


@pytest.mark.parametrize("heading", ["Install and start", "With constraints", "With checked hashes"])
def test_pip_page_installs_and_serves(wheels: CleanSystem, heading: str) -> None:
    blocks = commands("pip", heading.replace("With constraints", "Install and start"), VERSION)
    *install, serve = blocks[0]
    if heading == "With constraints":
        install = blocks[1]
    tocsin = serve.removesuffix(" serve")
    said = wheels.run(
        "\n".join([_OFFLINE, *install, f"export TOKEN={HALO_TOKEN} TOCSIN={tocsin}", SERVE])
        + f"$TOCSIN apply /root/tocsin.yaml\n{POST_AND_LOOK}$TOCSIN --version\n"
    )
    assert said.splitlines()[-3:] == ["Mapped Opened", "page", f"tocsin {VERSION}"]


def test_container_page_runs_upgrades_and_leads_back(
    podman: Podman, artefact: Callable[[str], list[Path]], next_image: str, network_mails: SmtpDouble, tmp_path: Path
) -> None:
    tools = bring.dist_tools(bring.uv())
    shutil.copy(artefact("image")[0], tmp_path)
    podman.call("save", "--quiet", "--output", tmp_path / container.archive_name(NEXT_VERSION), next_image)
    podman.call("rmi", next_image)
    (tmp_path / "smtp-url").write_text(network_mails.url)
    load, make_volume, start, logs = commands("container", "Start", VERSION)[0]
    secret = commands("container", "Settings", VERSION)[0][0].replace("/etc/tocsin", str(tmp_path))
    image = container.image_name(VERSION)
    start = start.replace(image, f"{secret} --env TOCSIN_EMAIL_FROM=tocsin@example.org {image}")

    def run(*lines: str, typed: str = "") -> str:
        return podman.shell(*lines, folder=tmp_path, tools=tools, typed=typed)

    @contextmanager
    def serve(start: str, *, is_upgrade: bool = False) -> Iterator[str]:
        run(start)
        url = "http://127.0.0.1:8686"
        try:
            until("Tocsin is ready", lambda: is_ready(url), 240)
            assert ("The database is upgraded." in run(logs)) is is_upgrade
            yield url
        finally:
            assert "Traceback" not in run(logs)
            run(remove)

    def prepare(url: str) -> None:
        assert "Make the first administrator: http://localhost:8686/setup/" in run(logs)
        run("docker exec --interactive tocsin tocsin apply /dev/stdin", typed=CONFIGURATION)
        (user,) = commands("container", "Start", VERSION)[1]
        run(user.replace("alice", "dave"), typed="a long enough passphrase 7\n")
        assert "Sign in" in ask("GET", f"{url}/account/login/", seconds=120).text
        (tmp_path / "backup").mkdir()
        run(*(line.replace("/backup/", f"{tmp_path}/backup/") for line in commands("container", "Backup", VERSION)[0]))
        (made,) = (tmp_path / "backup").iterdir()
        assert made.stat().st_size > 10_000
        assert "TOCSIN_HEARTBEAT_URL" in run("docker exec tocsin tocsin doctor || true")

    run(load, make_volume)
    (backup, load_next, remove), back = commands("container", "Upgrade", VERSION, NEXT_VERSION)
    upgrade_with_pages(
        lambda: serve(start), lambda: serve(start.replace(image, next_image), is_upgrade=True), network_mails,
        prepare=prepare, upgrade=lambda: run(backup, load_next),
    )  # fmt: skip
    run(*back)
    paged = len(network_mails.mails)
    with serve(start.replace("--volume tocsin:", "--volume tocsin-old:")) as url:
        post(url, 6)
        until("the old version pages", lambda: len(network_mails.mails) > paged, 120)
