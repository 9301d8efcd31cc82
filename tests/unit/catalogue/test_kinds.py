"""The catalogue's loader: kinds, settings, guides."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tocsin.catalogue.kinds import Category, Kind, clean_settings, load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.reading import Definition, compile_reader

URL = "https://tocsin.example/in/0123456789abcdef0123456789abcdef"
HALO = load_kinds()["haloitsm"]
KINDS = list(load_kinds().values())


def test_the_kinds_are_there_with_what_product_rules_need() -> None:
    assert {"haloitsm", "api"} <= load_kinds().keys()
    assert (HALO.source, HALO.id_required, HALO.unreadable_status, HALO.lenient) == ("HaloITSM", True, 200, True)
    api = load_kinds()["api"]
    assert (api.source, api.id_required, api.unreadable_status, api.lenient) == (None, False, 400, False)
    assert api.category is Category.API


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kinds_defaults_compile(kind: Kind) -> None:
    assert compile_reader(kind, Definition()).mapping.names


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_guide_carries_the_integrations_own_url_and_no_placeholder(kind: Kind) -> None:
    guide = kind.guide(URL, {})
    assert URL in guide
    assert "{{" not in guide
    assert guide.startswith("# ")


def test_a_guide_fills_in_settings_and_marks_what_is_not_set() -> None:
    with_setting = replace(HALO, guide_text="{{ url }} {{halo_address}} {{nothing}}")
    assert with_setting.guide(URL, {"halo_address": "https://a"}) == f"{URL} https://a …"


@pytest.mark.parametrize(
    "needed",
    [
        "Configuration → Integrations → Webhooks",
        "**New**",
        "Payload URL",
        "**POST**",
        "**application/json**",
        "**enabled**",
        "New Ticket Logged",
        "Ticket Status Changed",
        "Ticket Reassigned",
        "Ticket Closed",
        "Ticket Deleted",
        "**All**",
        "Full object with linked objects",
        "conditions on statuses",
        "switch a webhook off by itself",
    ],
)
def test_the_halo_guide_names_halos_own_screens(needed: str) -> None:
    assert needed in HALO.guide(URL)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("acme.haloitsm.com", "https://acme.haloitsm.com"),
        ("https://acme.haloitsm.com/", "https://acme.haloitsm.com"),
        ("https://acme.haloitsm.com/api", "https://acme.haloitsm.com"),
        ("HTTPS://acme.haloitsm.com/auth/", "https://acme.haloitsm.com"),
        ("https://desk.example/halo/", "https://desk.example/halo"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_an_address_is_taken_in_every_form_that_people_paste(given: str, stored: str) -> None:
    assert clean_settings(HALO, {"halo_address": given}) == {"halo_address": stored}


def test_settings_are_cleaned() -> None:
    given = {
        "halo_address": "",
        "statuses": {1: "New", "77": " Odd "},
        "owned_ticket_stops": True,
        "priorities": {"1": "high"},
    }
    assert clean_settings(HALO, given) == {
        "statuses": {"1": "New", "77": "Odd"},
        "owned_ticket_stops": True,
        "priorities": {"1": "high"},
    }


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"halo_adress": "x"}, "settings.halo_adress"),
        ({"halo_address": "not an address"}, "settings.halo_address"),
        ({"halo_address": "javascript:alert(1)"}, "settings.halo_address"),
        ({"halo_address": "https://user:secret@acme.example"}, "settings.halo_address"),
        ({"halo_address": 7}, "settings.halo_address"),
        ({"statuses": ["New"]}, "settings.statuses"),
        ({"statuses": {"1": ""}}, "settings.statuses.1"),
        ({"statuses": {"1": ["New"]}}, "settings.statuses.1"),
        ({"priorities": {"1": "urgent"}}, "settings.priorities.1"),
        ({"owned_ticket_stops": "yes"}, "settings.owned_ticket_stops"),
    ],
)
def test_a_bad_setting_is_refused_at_its_place(given: dict[str, object], place: str) -> None:
    with pytest.raises(Rejected) as caught:
        clean_settings(HALO, given)
    assert caught.value.field == place
    assert caught.value.detail.startswith(f"{place}")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_samples_follow_only_samples_that_there_are(kind: Kind) -> None:
    names = {sample.name for sample in kind.samples}
    assert names
    for sample in kind.samples:
        assert set(sample.before) <= names
        assert sample.title
        clean_settings(kind, sample.settings)
