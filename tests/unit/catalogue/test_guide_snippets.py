"""The snippets of each guide send exactly the fields of the kind's samples."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

import pytest
import yaml

from tocsin.catalogue.kinds import IntegrationKind, load_kinds

URL = "https://tocsin.example/in/0123456789abcdef0123456789abcdef"
KINDS = load_kinds()


def blocks(kind: IntegrationKind) -> list[str]:
    """The guide's blocks of code, as they are pasted."""
    results = re.findall(r"(?ms)^( *)```\w*\n(.*?)^ *```", kind.guide(URL))
    return [re.sub(rf"(?m)^{indent}", "", code) for indent, code in results]


def fields_of(kind: IntegrationKind, sample: str = "") -> set[str]:
    """The names in a sample's body, which is JSON or form fields; of the first sample where none is named."""
    body = next(one.body for one in kind.samples if one.name == (sample or kind.first_sample))
    return {*json.loads(body)} if body.startswith(b"{") else {name for name, _ in parse_qsl(body.decode(), True)}


@pytest.mark.parametrize(
    "name",
    [
        "crowdstrike",
        "datadog",
        "dynatrace",
        "elastic",
        "healthchecks",
        "logicmonitor",
        "proxmox",
        "solarwinds",
        "uptimerobot",
    ],
)
def test_a_payload_to_paste_has_the_samples_fields(name: str) -> None:
    kind = KINDS[name]
    template = next(code for code in blocks(kind) if code.startswith("{\n"))
    assert {*re.findall(r'(?m)^ {2}"(\w+)":', template)} == fields_of(kind)


@pytest.mark.parametrize(
    ("name", "sample", "mark"),
    [
        ("nagios", "service-critical", "notify-service-by-tocsin"),
        ("icinga", "linked", "exec curl"),
        ("checkmk", "linked", "curl"),
        ("jenkins", "step-failure", "curl"),
    ],
)
def test_a_script_to_paste_posts_the_samples_fields(name: str, sample: str, mark: str) -> None:
    kind = KINDS[name]
    script = next(code for code in blocks(kind) if mark in code)
    posted = {*re.findall(r'(?:--data-urlencode|-d) "?(\w+)=', script.partition("define contact")[0])}
    assert posted == fields_of(kind, sample)


def test_the_payload_of_prtg_has_the_samples_fields() -> None:
    payload = next(code for code in blocks(KINDS["prtg"]) if code.startswith("sensorid="))
    assert {pair.partition("=")[0] for pair in payload.strip().split("&")} == fields_of(KINDS["prtg"])


def test_zabbix_media_type_imports_and_sends_the_samples_fields() -> None:
    (media_type,) = yaml.safe_load(blocks(KINDS["zabbix"])[0])["zabbix_export"]["media_types"]
    parameters = {one["name"]: one["value"] for one in media_type["parameters"]}
    assert parameters.pop("url") == URL
    assert parameters.keys() == fields_of(KINDS["zabbix"])
    assert {one["operation_mode"] for one in media_type["message_templates"]} == {"PROBLEM", "RECOVERY", "UPDATE"}
