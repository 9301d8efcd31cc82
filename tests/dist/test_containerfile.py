"""The Containerfile and the compose files, as text: what they must hold whoever builds and starts them."""

from __future__ import annotations

import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import bring
import pytest
import yaml
from builders import container, debian_base, release

from tocsin.core.config import environment

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
COMPOSE = sorted((PACKAGING / "compose").glob("*.yaml"))

type Instruction = tuple[str, str]


def stages() -> list[list[Instruction]]:
    """The instructions of each stage; those before the first FROM are left out."""
    text = re.sub(r"^#.*\n", "", container.CONTAINERFILE.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[Instruction]] = []
    for line in filter(None, text.splitlines()):
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((name, value))
    return stages


def final(name: str) -> list[str]:
    return [value for instruction, value in stages()[-1] if instruction == name]


def test_archive_does_not_say_where_it_was_built(tmp_path: Path) -> None:
    for build in ("first", "second"):
        config = {"container": build, "container_config": {}, "config": {"Hostname": build, "User": "10001"}}
        manifest = [{"Config": f"{build}.json", "Layers": ["layer.tar"]}]
        files = {"layer.tar": "layer", f"{build}.json": json.dumps(config), "manifest.json": json.dumps(manifest)}
        (tmp_path / build).mkdir()
        for name, text in files.items():
            (tmp_path / build / name).write_text(text)
            os.utime(tmp_path / build / name, (0, 0))
        with tarfile.open(tmp_path / f"{build}.tar", "w") as archive:
            for name in files:
                archive.add(tmp_path / build / name, name)
        container.write_archive(tmp_path / f"{build}.tar", tmp_path / f"{build}.tar.gz")
    assert (tmp_path / "first.tar.gz").read_bytes() == (tmp_path / "second.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "first.tar.gz") as archive:
        layer, name, last = archive.getnames()
        assert (layer, last) == ("layer.tar", "manifest.json")
        file = archive.extractfile(name)
        assert file is not None
        assert json.load(file) == {"config": {"User": "10001"}}


def test_image_runs_as_an_unprivileged_user_with_one_volume() -> None:
    assert final("USER") == ["10001:10001"]
    assert final("VOLUME") == ["/data"]
    assert "TOCSIN_DATA_DIR=/data" in final("ENV")[0]


@pytest.mark.parametrize("name", ["ENTRYPOINT", "CMD"])
def test_processes_are_started_without_a_shell(name: str) -> None:
    (command,) = final(name)
    assert all(isinstance(word, str) for word in json.loads(command))


def test_health_is_checked_by_the_tocsin_command() -> None:
    (check,) = final("HEALTHCHECK")
    assert check.endswith('CMD ["tocsin", "probe"]')


def test_final_stage_installs_nothing_but_runtime_packages() -> None:
    words = " ".join(final("RUN"))
    assert not re.search(r"\bpip\b|gcc|build-essential|curl|https?://", words)
    assert [value for value in final("COPY") if not value.startswith("--from=build ")] == []
    assert final("ADD") == []


def test_wheels_are_installed_by_hash_from_the_context_alone() -> None:
    (install,) = [value for _, value in stages()[0] if "pip --python" in value]
    assert {"--require-hashes", "--no-index"} <= set(install.split())


def test_base_is_a_dated_debian_of_the_local_release() -> None:
    (base,) = re.findall(r"^ARG BASE=(.+)$", container.CONTAINERFILE.read_text(), re.MULTILINE)
    assert re.fullmatch(rf"debian:{debian_base.SUITE}-20\d{{6}}-slim", base)


def _services(file: Path) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(file.read_text())["services"]
    return services


def _nodes(file: Path) -> list[dict[str, Any]]:
    return [service for service in _services(file).values() if "tocsin" in service["image"]]


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_compose_nodes_are_confined_and_restarted(file: Path) -> None:
    assert _nodes(file)
    for node in _nodes(file):
        assert (node["read_only"], node["cap_drop"], node["restart"]) == (True, ["ALL"], "unless-stopped")
        assert node["security_opt"] == ["no-new-privileges:true"]
        assert [mount.partition(":")[2] for mount in node["volumes"]] == ["/data"]
        assert node["image"] == f"${{TOCSIN_IMAGE:-{container.image_name(release.version())}}}"


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_compose_sets_only_variables_that_tocsin_knows(file: Path) -> None:
    for node in _nodes(file):
        plain = {name: re.sub(r"\$\{.*\}", "", value) for name, value in node["environment"].items()}
        settable = {name: value for name, value in plain.items() if not name.endswith("_FILE") and not value}
        environment.read(settable)
        names = {variable.name for variable in environment.VARIABLES}
        assert {name.removesuffix("_FILE") for name in plain} <= names


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_compose_volumes_and_secrets_are_declared(file: Path) -> None:
    whole = yaml.safe_load(file.read_text())
    used = {mount.partition(":")[0] for service in whole["services"].values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(whole["volumes"])
    secrets = {name for service in whole["services"].values() for name in service.get("secrets", [])}
    assert secrets == set(whole.get("secrets", {}))


def test_caddy_knows_every_node_of_the_compose_file() -> None:
    nodes = [
        name
        for name, service in _services(PACKAGING / "compose" / "compose.ha.yaml").items()
        if "data-" in str(service)
    ]
    caddyfile = (PACKAGING / "compose" / "Caddyfile").read_text()
    assert re.findall(r"([\w-]+):8686", caddyfile) == nodes


def test_proxy_on_the_machine_is_trusted_with_docker_and_podman() -> None:
    text = (bring.ROOT / "packaging/compose/compose.yaml").read_text()
    (trusted,) = re.findall(r"\$\{TOCSIN_TRUSTED_PROXIES:-([^}]+)\}", text)
    (subnet,) = re.findall(r"\$\{TOCSIN_SUBNET:-([^}]+)\}", text)
    assert trusted == subnet
