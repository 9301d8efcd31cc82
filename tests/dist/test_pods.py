"""The overlay of a single node for Kubernetes, carried out by Podman: a message is posted, and its page leaves.

Podman is no cluster: it knows Deployments, ConfigMaps, Secrets and claims of volumes. Not tried so: StatefulSet (run as
a Deployment here), Service, NetworkPolicy, fsGroup, the probes; and the overlay `ha` with its CronJob,
PodDisruptionBudget and rolling update.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dist.test_kubernetes import build, needs_kustomize
from tests.doubles.smtp import SmtpDouble
from tests.support.installation import CONFIGURATION, until
from tests.support.podman import Podman
from tests.support.upgrade_walk import is_ready, pages, post

pytestmark = [pytest.mark.long, needs_kustomize]

POD = "10.88.0.86"
URL = f"http://{POD}:8686"
#: PostgreSQL's account comes from the image's volume; a claim that the image does not know belongs to root.
OWNED = {"volume.podman.io/uid": "10001", "volume.podman.io/gid": "10001"}

type Manifest = dict[str, Any]


def without_a_cluster(manifests: list[Manifest]) -> list[Manifest]:
    """The manifests as Podman knows them."""
    known = {item["kind"]: item for item in manifests if item["kind"] in ("ConfigMap", "Deployment", "StatefulSet")}
    claims = [item for item in manifests if item["kind"] == "PersistentVolumeClaim"]
    workload = known.pop("StatefulSet", None) or known.pop("Deployment")
    volumes = workload["spec"]["template"]["spec"]["volumes"]
    for template in workload["spec"].pop("volumeClaimTemplates", ()):
        claims.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", **template})
        name = template["metadata"]["name"]
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    workload |= {"kind": "Deployment", "spec": workload["spec"] | {"replicas": 1}}
    for claim in claims:
        claim["metadata"]["annotations"] = OWNED
    return [*known.values(), *claims, workload]


def readable(pod: Manifest) -> Manifest:
    """The pod, whose secrets its user may read without fsGroup."""
    for volume in pod["spec"]["volumes"]:
        if "secret" in volume:
            volume["secret"]["defaultMode"] = 0o444
    return pod


type Play = Callable[[list[Manifest]], None]


@pytest.fixture
def play(podman: Podman, network_mails: SmtpDouble, tmp_path: Path) -> Iterator[Play]:
    """Starts what the manifests describe."""
    played: list[Path] = []

    def play(manifests: list[Manifest], ip: str = POD) -> None:
        played.append(tmp_path / f"{len(played)}.yaml")
        played[-1].write_text(yaml.safe_dump_all(manifests))
        podman.call("kube", "play", "--network=podman", f"--ip={ip}", played[-1])

    yield play
    for file in reversed(played):
        podman.call("kube", "down", "--force", file)


def secret(**values: str) -> Manifest:
    encoded = {name.replace("_", "-"): base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tocsin"}, "data": encoded}


def overlay(name: str, mails: SmtpDouble, **secrets: str) -> list[Manifest]:
    """The objects of an overlay, with a mail server as the page says."""
    manifests = without_a_cluster(build(f"overlays/{name}"))
    settings = next(item for item in manifests if item["kind"] == "ConfigMap")["data"]
    settings |= {"TOCSIN_SMTP_URL_FILE": "/run/secrets/tocsin/smtp-url", "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
    readable(manifests[-1]["spec"]["template"])
    return [secret(smtp_url=mails.url, **secrets), *manifests]


def assert_pages(podman: Podman, mails: SmtpDouble) -> None:
    until("Tocsin is ready", lambda: is_ready(URL), 240)
    tocsin = ("exec", "--interactive", "tocsin-pod-tocsin", "tocsin")
    assert "/setup/" in podman.call("logs", "tocsin-pod-tocsin").stderr
    podman.call(*tocsin, "apply", "/dev/stdin", typed=CONFIGURATION)
    alert = post(URL, 1)
    until("Alice is paged", lambda: pages(mails) == [alert], 120)


def test_single_node_pages(podman: Podman, image: str, play: Play, network_mails: SmtpDouble) -> None:
    play(overlay("single", network_mails))
    assert_pages(podman, network_mails)
