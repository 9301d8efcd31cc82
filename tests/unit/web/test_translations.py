"""Each offered language: its translations have the placeholders of the texts, and what is missing is a warning."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from django.conf import settings

ROOT = Path(__file__).resolve().parents[3]
_PLACE = re.compile(r"%\([a-z_]+\)[sd]|%[sd%]|\{[a-z_]*\}", re.IGNORECASE)


@pytest.fixture(scope="module")
def translations() -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import translations as script
    finally:
        sys.path.pop(0)
    return script


@pytest.fixture(scope="module")
def texts(translations: ModuleType) -> list[Any]:
    return list(translations.collect())


@pytest.mark.parametrize("language", [code for code, _name in settings.LANGUAGES if code != settings.LANGUAGE_CODE])
def test_each_language_has_equal_placeholders(translations: ModuleType, texts: list[Any], language: str) -> None:
    catalog = translations.read(translations.LOCALE / language / "LC_MESSAGES" / translations.DOMAIN)
    missing: list[tuple[str | None, str]] = []
    other_places = []
    for text, context in texts:
        expected = (text,) if isinstance(text, str) else text
        message = catalog.get(expected[0], context)
        if message is None or not translations.is_translated(message.string):
            missing.append((context, expected[0]))
            continue
        given = (message.string,) if isinstance(message.string, str) else tuple(message.string)
        places = {place for one in expected for place in _PLACE.findall(one)}
        # "One alert" may leave the number out; no form may name a value that is not there.
        if not all(set(_PLACE.findall(one)) <= places for one in given) or set(_PLACE.findall(given[-1])) != set(
            _PLACE.findall(expected[-1])
        ):
            other_places.append(expected[0])
    if missing:
        warnings.warn(
            f"{language}: {len(missing)} of {len(texts)} texts have no translation: make messages", stacklevel=1
        )
    assert other_places == []
    # Dates have the language's own form, and a voice reads one language.
    assert [text for context, text in missing if "date" in (context or "")] == []
    spoken = {text for text, context in texts if context == "phone call"}
    assert {text for context, text in missing if context == "phone call"} in (set(), spoken)


def test_release_needs_whole_languages(translations: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translations, "collect", lambda: iter([("Acknowledge", None), ("Nobody wrote this yet", None)]))
    assert translations.release_problems() == ["1 texts have no translation into de: `make messages`"]


def test_half_translated_language_says_its_percentage(translations: ModuleType) -> None:
    catalog = Catalog(locale="fr")
    for text, string in (("Alert", "Alerte"), ("Group", ""), (("{n} day", "{n} days"), ("{n} jour", ""))):
        catalog.add(text, string)
    compiled = translations.compilable(catalog)
    assert {message.id: message.string for message in compiled if message.id} == {
        "Alert": "Alerte", "{language}": "{language} · 33 %",
    }  # fmt: skip


def test_scripts_name_no_language_and_hold_no_sentence(translations: ModuleType) -> None:
    # Their words are in the templates, for the catalogues to translate.
    words = re.compile(r"""lang\b.*(===?|startsWith)|["'`][A-Z][a-z']+ [a-z][^"'`]*["'`]""")
    found = {
        f"{path.name}: {line.strip()}"
        for path in (translations.PACKAGE / "web" / "static" / "tocsin").glob("*.js")
        for line in path.read_text().splitlines()
        if words.search(line) and not line.startswith("/*")
    }
    assert found == set()


def test_texts_in_code_and_templates_are_extracted(texts: list[Any]) -> None:
    single = {text if isinstance(text, str) else text[0] for text, _context in texts}
    assert {"Acknowledge", "Skip to the content", "Connection lost since {time}. Data may be out of date."} <= single


def test_translation_functions_use_extracted_names(translations: ModuleType) -> None:
    # Under another name a text would never reach the catalogue, and stay English.
    alias = re.compile(r"import \w*gettext\w* as (\w+)")
    used = {
        (str(path.relative_to(ROOT)), name)
        for path in translations.PACKAGE.rglob("*.py")
        for name in alias.findall(path.read_text())
    }
    assert used
    assert [one for one in sorted(used) if one[1] not in translations.KEYWORDS] == []
