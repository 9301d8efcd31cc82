"""The manifests for Kubernetes: valid, restricted, and the same by Kustomize and by Helm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import bring
import pytest
from builders import kubernetes, release

from scripts import render_chart
from tocsin.core.config.environment import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "packaging" / "kubernetes"
OVERLAYS = ("single", "ha")

#: The oldest version that the documentation names, and the newest one.
KUBERNETES = ("1.30.0", "1.37.0")

#: What Helm adds, and what Kustomize has no need of.
ONLY_HELM = {"app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "imagePullPolicy"}

#: The chart's values that give the overlay of that name.
VALUES: dict[str, dict[str, Any]] = {"single": {}, "ha": {"highAvailability": {"enabled": True}}}

EVERYTHING = {
    "highAvailability": {"enabled": True, "replicas": 3},
    "image": {"repository": "registry.example.org/tocsin", "tag": "9", "pullSecrets": [{"name": "registry"}]},
    "ingress": {"enabled": True, "className": "nginx", "annotations": {"a": "b"}, "host": "pager.example.org"},
    "serviceMonitor": {"enabled": True},
    "nodeSelector": {"zone": "yes"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "persistence": {"storageClass": "fast"},
}

needs_kustomize = pytest.mark.skipif(
    shutil.which("kustomize") is None and not os.environ.get("CI"), reason="kustomize is not installed"
)


@cache
def build(folder: str) -> list[dict[str, Any]]:
    """What Kustomize makes of a folder, by kind."""
    command = ["kustomize", "build", MANIFESTS / folder]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return by_kind(text.split("\n---\n"))


def template(values: dict[str, Any]) -> list[dict[str, Any]]:
    return by_kind([text for name, text in render_chart.render(values).items() if name.endswith(".yaml")])


def by_kind(texts: list[str]) -> list[dict[str, Any]]:
    return sorted((render_chart.reader().load(text) for text in texts), key=lambda item: str(item["kind"]))


@pytest.fixture(scope="session")
def validators() -> Path:
    """The folder of kubernetes-validate."""
    return bring.kubernetes(bring.uv())


def validate(validators: Path, folder: Path, manifests: list[dict[str, Any]], version: str) -> str:
    """What the schemas of that version say; empty if all manifests are valid."""
    files = []
    for number, manifest in enumerate(manifests):
        files.append(folder / f"{number}.json")
        files[-1].write_text(json.dumps(manifest))
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", "-k", version, *files]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(validators)}, capture_output=True, text=True)
    return done.stdout + done.stderr


@needs_kustomize
@pytest.mark.parametrize("version", KUBERNETES)
def test_overlays_and_chart_fit_the_schemas_of_kubernetes(version: str, validators: Path, tmp_path: Path) -> None:
    chart = [manifest for manifest in template(EVERYTHING) if manifest["kind"] != "ServiceMonitor"]
    manifests = [*build("overlays/single"), *build("overlays/ha"), *chart]
    assert len(manifests) == 4 + 7 + 8
    assert validate(validators, tmp_path, manifests, version) == ""


def test_misspelled_field_does_not_fit_the_schemas(validators: Path, tmp_path: Path) -> None:
    manifests = template({})
    manifests[-1]["spec"]["template"]["spec"]["enableServiceLink"] = False
    assert "enableServiceLink" in validate(validators, tmp_path, manifests, KUBERNETES[1])


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_chart_renders_what_kustomize_builds(overlay: str) -> None:
    built = json.dumps(build(f"overlays/{overlay}"))
    # Kustomize names a ConfigMap by what is in it; in the chart an annotation makes a change restart the pods.
    plain = json.loads(re.sub(r'"tocsin-[a-z0-9]{10}"', '"tocsin"', built))
    rendered = template(VALUES[overlay])
    annotations = rendered[[item["kind"] for item in rendered].index(workload(rendered)["kind"])]
    assert list(annotations["spec"]["template"]["metadata"].pop("annotations")) == ["checksum/config"]
    assert without(rendered) == without(plain)


def without(value: Any) -> Any:
    """The value without what only Helm has, and with lists of named things in the order of their names."""
    match value:
        case dict():
            return {key: without(item) for key, item in value.items() if key not in ONLY_HELM}
        case [{"name": _}, *_]:
            return sorted((without(item) for item in value), key=lambda item: str(item["name"]))
        case list():
            return [without(item) for item in value]
    return value


def workload(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return next(manifest for manifest in manifests if manifest["kind"] in ("Deployment", "StatefulSet"))


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (only,) = workload(manifests)["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_is_restricted_as_pod_security_standards_say(overlay: str) -> None:
    pod = workload(build(f"overlays/{overlay}"))["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_tocsin_knows_each_variable_of_its_pod(overlay: str) -> None:
    manifests = build(f"overlays/{overlay}")
    config = next(manifest for manifest in manifests if manifest["kind"] == "ConfigMap")
    names = {entry["name"] for entry in container(manifests)["env"]} | set(config["data"])
    assert {name.removesuffix("_FILE") for name in names} <= {variable.name for variable in VARIABLES}
    # Kubernetes would add TOCSIN_PORT for the Service, and Tocsin would not start.
    assert workload(manifests)["spec"]["template"]["spec"]["enableServiceLinks"] is False


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_choose_the_pods_of_tocsin(overlay: str) -> None:
    manifests = build(f"overlays/{overlay}")
    labels = workload(manifests)["spec"]["template"]["metadata"]["labels"]
    chosen = [
        manifest["spec"].get("podSelector") or manifest["spec"]["selector"]
        for manifest in manifests
        if manifest["kind"] in ("NetworkPolicy", "PodDisruptionBudget", "Deployment", "StatefulSet")
    ]
    chosen += [{"matchLabels": item["spec"]["selector"]} for item in manifests if item["kind"] == "Service"]
    assert chosen == [{"matchLabels": labels}] * (3 if overlay == "single" else 4)


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_openshift_chooses_every_user(overlay: str, tmp_path: Path) -> None:
    shutil.copytree(MANIFESTS, tmp_path / "kubernetes")
    own = f"resources: [kubernetes/overlays/{overlay}]\ncomponents: [kubernetes/components/openshift]\n"
    (tmp_path / "kustomization.yaml").write_text(own)
    built = json.dumps(build(str(tmp_path)))
    assert built.count('"runAsNonRoot": true') == (2 if overlay == "ha" else 1)
    assert not re.search('runAsUser|runAsGroup|fsGroup"', built)


@needs_kustomize
def test_backup_runs_as_a_node_does_but_gets_no_requests() -> None:
    manifests = build("overlays/ha")
    (cron,) = [manifest for manifest in manifests if manifest["kind"] == "CronJob"]
    template, node = cron["spec"]["jobTemplate"]["spec"]["template"], workload(manifests)["spec"]["template"]
    assert template["metadata"]["labels"] != node["metadata"]["labels"]
    assert template["spec"]["securityContext"] == node["spec"]["securityContext"]
    (own,) = template["spec"]["containers"]
    for name in ("image", "envFrom", "resources", "securityContext"):
        assert own[name] == container(manifests)[name], name
    assert {entry["name"] for entry in own["env"]} == {entry["name"] for entry in container(manifests)["env"]}
    (volume,) = [manifest for manifest in manifests if manifest["kind"] == "PersistentVolumeClaim"]
    claimed = [item["persistentVolumeClaim"] for item in template["spec"]["volumes"] if "persistentVolumeClaim" in item]
    assert claimed == [{"claimName": volume["metadata"]["name"]}]


@needs_kustomize
def test_service_monitor_watches_the_service() -> None:
    (monitor,) = build("components/service-monitor")
    service = next(manifest for manifest in build("overlays/ha") if manifest["kind"] == "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]


@needs_kustomize
def test_image_and_chart_have_the_version_of_the_package() -> None:
    chart = render_chart.load(render_chart.CHART / "Chart.yaml")
    version = release.version()
    assert (chart["version"], chart["appVersion"]) == (version, version)
    for overlay in OVERLAYS:
        assert container(build(f"overlays/{overlay}"))["image"] == f"tocsin:{version}"
    assert container(template({}))["image"] == f"tocsin:{version}"


def test_schema_of_values_names_the_wrong_place(validators: Path) -> None:
    places = {
        "replicas": {"replicas": 2},
        "highAvailability/replicas": {"highAvailability": {"replicas": 1}},
        "config": {"config": {"BASE_URL": "https://tocsin.example.org"}},
        "config/TOCSIN_DEBUG": {"config": {"TOCSIN_DEBUG": 1}},
        "persistence/size": {"persistence": {"size": "10 GB"}},
    }
    code = (
        "import json, sys, jsonschema; schema, all_values = map(json.loads, sys.argv[1:])\n"
        "for values in all_values:\n"
        "    errors = jsonschema.Draft7Validator(schema).iter_errors(values)\n"
        "    print([('/'.join(error.absolute_path), error.message) for error in errors])"
    )
    schema = (render_chart.CHART / "values.schema.json").read_text()
    command = [sys.executable, "-c", code, schema, json.dumps([{}, EVERYTHING, *places.values()])]
    environ = {**os.environ, "PYTHONPATH": str(validators)}
    said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[:2] == ["[]", "[]"]
    for place, errors in zip(places, said[2:], strict=True):
        assert f"'{place}'" in errors


def test_every_value_of_the_chart_is_in_its_schema() -> None:
    schema = json.loads((render_chart.CHART / "values.schema.json").read_text())
    for name, value in render_chart.load(render_chart.CHART / "values.yaml").items():
        known = schema["properties"][name]
        if "properties" in known:
            assert set(value) == set(known["properties"]), name


@pytest.mark.parametrize(
    "text", ["{{ range .Values.config }}{{ end }}", "{{ if .Values.image }}", "{{ lower .Values }}"]
)
def test_renderer_refuses_what_it_does_not_know(text: str, tmp_path: Path) -> None:
    shutil.copytree(render_chart.CHART, tmp_path / "chart")
    (tmp_path / "chart" / "templates" / "other.yaml").write_text(text)
    with pytest.raises(render_chart.UnknownSyntax):
        render_chart.render({}, chart=tmp_path / "chart")


def blocks_of_guide(language: str) -> list[str]:
    """The code blocks of that language in the guide, with the version of this tree."""
    text = (ROOT / "docs" / "get-started" / "install" / "kubernetes.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [block.replace("VERSION", release.version()) for block in blocks]


@needs_kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomization_of_the_guide_builds_from_the_archive(overlay: str, validators: Path, tmp_path: Path) -> None:
    kubernetes.build_manifests(release.version(), tmp_path)
    with tarfile.open(tmp_path / f"tocsin-{release.version()}-kubernetes.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    own, _, ingress = blocks_of_guide("yaml")
    (tmp_path / "ingress.yaml").write_text(ingress)
    own = own.replace("overlays/single", f"overlays/{overlay}")
    monitor = f"tocsin-{release.version()}-kubernetes/components/service-monitor"
    own = own.replace("resources:\n", f"components: [{monitor}]\nresources:\n  - ingress.yaml\n")
    (tmp_path / "kustomization.yaml").write_text(own)
    built = build(str(tmp_path))
    assert {manifest["metadata"]["namespace"] for manifest in built} == {"tocsin"}
    assert container(built)["image"] == f"registry.example.org/tocsin:{release.version()}"
    config = next(manifest for manifest in built if manifest["kind"] == "ConfigMap")
    assert {"TOCSIN_LOG_FORMAT", "TOCSIN_BASE_URL", "TOCSIN_SMTP_URL_FILE"} <= set(config["data"])
    assert container(built)["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    core = [manifest for manifest in built if manifest["kind"] != "ServiceMonitor"]
    assert validate(validators, tmp_path, core, KUBERNETES[1]) == ""


def test_values_of_the_guide_render() -> None:
    values = render_chart.reader().load(blocks_of_guide("yaml")[1])
    rendered = template(values)
    assert "Ingress" in {manifest["kind"] for manifest in rendered}
    assert container(rendered)["image"] == f"registry.example.org/tocsin:{release.version()}"


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
@pytest.mark.parametrize("values", [{}, EVERYTHING])
def test_renderer_agrees_with_helm(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "values.json").write_text(json.dumps(values))
    command = ["helm", "template", "tocsin", render_chart.CHART, "--values", tmp_path / "values.json"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    by_helm, own = by_kind([part for part in text.split("---\n") if part.strip()]), template(values)
    for manifests in (by_helm, own):
        workload(manifests)["spec"]["template"]["metadata"].pop("annotations")
    assert by_helm == own


def test_archives_are_equal_and_hold_every_file(tmp_path: Path) -> None:
    for folder in (tmp_path / "1", tmp_path / "2"):
        folder.mkdir()
        kubernetes.build_manifests("1.0", folder)
        kubernetes.build_chart("1.0", folder)
    names = ("tocsin-1.0-kubernetes.tar.gz", "tocsin-1.0-chart.tgz")
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    with tarfile.open(tmp_path / "1" / names[0]) as archive:
        assert "tocsin-1.0-kubernetes/overlays/ha/kustomization.yaml" in archive.getnames()
    with tarfile.open(tmp_path / "1" / names[1]) as archive:
        assert {"tocsin/Chart.yaml", "tocsin/values.yaml"} <= set(archive.getnames())
