"""The catalogue's loader: kinds, settings, guides."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from tests.unit.catalogue.test_samples import SampleHarness, post
from tocsin.catalogue import hooks, scaffold
from tocsin.catalogue.kinds import Category, IntegrationKind, clean_settings, family, kinds_in, load_kinds, table
from tocsin.core.errors import Rejected
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer

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
def test_a_kinds_defaults_compile(kind: IntegrationKind) -> None:
    assert compile_normalizer(kind, IntegrationDefinition()).mapping.names


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_guide_carries_the_integrations_own_url_and_no_placeholder(kind: IntegrationKind) -> None:
    for language in ("de-ch", *kind.guides):
        assert URL in kind.guide(URL, {}, language)
    guide = kind.guide(URL, {})
    assert URL in guide
    assert guide.startswith("# ")
    named = {*re.findall(r"\{\{\s*([^\s}]*)", kind.guide_text)}
    assert {name for name in named if not name.startswith("!")} <= {
        "url",
        "token",
        "title",
        *(one.name for one in kind.settings),
    }


_TRANSLATED = [(kind, language) for kind in KINDS for language in kind.guides]


@pytest.mark.parametrize(("kind", "language"), _TRANSLATED, ids=lambda one: getattr(one, "name", one))
def test_a_guide_in_another_language_has_the_same_parts(kind: IntegrationKind, language: str) -> None:
    """The same headings, steps and tables, the same to paste, and the same values filled in."""
    ours, theirs = kind.guide_text, kind.guides[language]
    for part in (r"^#+ ", r"^\d+\. ", r"^\|", r"^- ", r"\{\{\s*[^}]*\}\}"):
        results = [re.findall(part, text, re.MULTILINE) for text in (ours, theirs)]
        assert sorted(results[0]) == sorted(results[1]), part
    pasted = [re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL) for text in (ours, theirs)]
    assert pasted[0] == pasted[1]


def test_guide_falls_back_to_english_with_a_note() -> None:
    assert HALO.guide_language("de-ch") == "de"
    assert HALO.guide_language("fr") == "en"
    assert HALO.guide("u", {}, "fr") == HALO.guide("u", {})


def test_guide_fills_in_settings_and_marks_missing_ones() -> None:
    with_setting = replace(HALO, guide_text="{{ url }} {{halo_address}} {{nothing}}")
    assert with_setting.guide(URL, {"halo_address": "https://a"}) == f"{URL} https://a …"


def test_a_guide_shows_placeholders_of_the_tools_own() -> None:
    with_own = replace(HALO, guide_text='{{ url }} {"title": "{{!escape title}}", "id": {{!id}}}')
    assert with_own.guide(URL) == f'{URL} {{"title": "{{{{escape title}}}}", "id": {{{{id}}}}}}'


@pytest.mark.parametrize(
    ("title", "letters"), [("HaloPSA", "HP"), ("Zendesk", "Ze"), ("N-able N-central", "NN"), ("7", "7")]
)
def test_a_kind_has_two_letters_where_a_picture_would_stand(title: str, letters: str) -> None:
    assert replace(HALO, title=title).initials == letters


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
        "disable a webhook",
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
def test_every_pasted_form_of_an_address_is_accepted(given: str, stored: str) -> None:
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
def test_samples_follow_only_samples_that_there_are(kind: IntegrationKind) -> None:
    names = {sample.name for sample in kind.samples}
    assert names
    for sample in kind.samples:
        assert set(sample.before) <= names
        assert sample.title
        clean_settings(kind, sample.settings)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kind_folder_contains_no_unused_files(kind: IntegrationKind) -> None:
    folder = scaffold.KINDS / kind.name
    if kind.same_as:
        assert [path.name for path in folder.iterdir()] == ["integration.toml"]
        return
    known = {"integration.toml", "guide.md", "samples", "__init__.py", "__pycache__"}
    known |= {f"guide.{language}.md" for language, _name in settings.LANGUAGES if language != "en"}
    known |= {path.name for path in folder.glob("outbound*")}
    assert {path.name for path in folder.iterdir()} <= known
    assert len(kind.samples) * 2 == len(list((folder / "samples").iterdir()))


def test_kind_alias_equals_original_except_for_search() -> None:
    psa = load_kinds()["halopsa"]
    own = {"name": HALO.name, "title": HALO.title, "description": HALO.description, "source": HALO.source}
    assert replace(psa, **own, same_as="") == HALO
    assert (psa.title, psa.source, psa.same_as) == ("HaloPSA", "HaloPSA", "haloitsm")
    assert psa.guide(URL).startswith("# Connect HaloPSA\n")
    assert family("haloitsm") == {"haloitsm", "halopsa"}
    assert family("api") == {"api"}


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        ('same_as = "uptime_owl"\ntitle = "Owl"\nrules = {}', "unknown key rules"),
        ('same_as = "nothing"\ntitle = "Owl"', "names no kind"),
        ('same_as = "owl_two"\ntitle = "Owl"', "names no kind"),
    ],
)
def test_a_kind_under_another_name_has_nothing_of_its_own(tmp_path: Path, manifest: str, problem: str) -> None:
    scaffold.create_kind("uptime_owl", "Uptime Owl", tmp_path)
    (tmp_path / "owl_two").mkdir()
    (tmp_path / "owl_two" / "integration.toml").write_text(manifest)
    with pytest.raises(ValueError, match=problem):
        kinds_in(tmp_path)


def test_the_documentation_lists_every_kind() -> None:
    text = Path(__file__).parents[3].joinpath("docs", "reference", "catalogue.md").read_text(encoding="utf-8")
    listed = text.partition("<!-- kinds -->")[2].partition("<!-- /kinds -->")[0]
    assert listed.strip() == table(), "put the table of `tocsin catalogue list --markdown` into this page"


def test_a_kind_that_is_begun_works_as_it_stands(tmp_path: Path) -> None:
    files = scaffold.create_kind("uptime_owl", "Uptime Owl", tmp_path)
    assert tmp_path / "uptime_owl" / "integration.toml" in files
    (kind,) = kinds_in(tmp_path).values()
    assert kind.title == "Uptime Owl"
    assert URL in kind.guide(URL)
    by_name = {sample.name: sample for sample in kind.samples}
    for sample in kind.samples:
        desk, reader = SampleHarness(), compile_normalizer(kind, IntegrationDefinition())
        for name in sample.before:
            post(desk, reader, by_name[name])
        assert [status.value for status, _, _ in post(desk, reader, sample)] == [one.status for one in sample.expect]


@pytest.mark.parametrize(
    ("name", "title"),
    [("Uptime", "x"), ("../halo", "x"), ("a", "x"), ("uptime-owl", "x"), ("uptime_owl", ""), ("uptime_owl", 'Up"time')],
)
def test_a_kind_that_could_not_be_used_is_not_begun(tmp_path: Path, name: str, title: str) -> None:
    with pytest.raises(Rejected):
        scaffold.create_kind(name, title, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    scaffold.create_kind("uptime_owl", "Uptime Owl", tmp_path)
    with pytest.raises(Rejected, match="there already"):
        scaffold.create_kind("uptime_owl", "Another", tmp_path)


def test_code_without_any_of_the_known_functions_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="none of the functions"):
        hooks.load("__init__")


def _kind_with(kind: str) -> IntegrationKind:
    setting = replace(HALO.settings[0], name="one", kind=type(HALO.settings[0].kind)(kind))
    return replace(HALO, settings=(setting,))


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("duration", "90s", "1m30s"),
        ("duration", "1h 30m", "1h30m"),
        ("cron", " 0  3 * * mon-fri", "0 3 * * mon-fri"),
        ("zone", "Europe/Zurich", "Europe/Zurich"),
        ("duration", "0", None),
        ("duration", "soon", None),
        ("cron", "0 3 * *", None),
        ("cron", "61 * * * *", None),
        ("cron", 7, None),
        ("zone", "Europe/Atlantis", None),
        ("zone", "../etc/passwd", None),
    ],
)
def test_settings_of_time_are_checked(kind: str, given: object, stored: str | None) -> None:
    if stored is not None:
        assert clean_settings(_kind_with(kind), {"one": given}) == {"one": stored}
        return
    with pytest.raises(Rejected) as caught:
        clean_settings(_kind_with(kind), {"one": given})
    assert caught.value.field == "settings.one"


@pytest.mark.parametrize("given", [7, "x" * 1001])
def test_setting_of_text_rejects_other_and_longer_values(given: object) -> None:
    with pytest.raises(Rejected) as caught:
        clean_settings(_kind_with("text"), {"one": given})
    assert caught.value.reason.data["problem"] == {
        "code": "must be text of at most {maximum} characters.",
        "data": {"maximum": 1000},
    }
