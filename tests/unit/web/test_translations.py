"""Each offered language is complete: every text has a translation with the same placeholders."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
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


@pytest.mark.parametrize("language", [code for code, _name in settings.LANGUAGES if code != "en"])
def test_each_language_has_every_text_with_equal_placeholders(translations: ModuleType, language: str) -> None:
    catalog = translations.read(translations.LOCALE / language / "LC_MESSAGES" / translations.DOMAIN)
    missing, other_places = [], []
    for text, context in translations.collect():
        expected = (text,) if isinstance(text, str) else text
        message = catalog.get(expected[0], context)
        if message is None or not translations.is_translated(message.string):
            missing.append(expected[0])
            continue
        given = (message.string,) if isinstance(message.string, str) else tuple(message.string)
        places = {place for one in expected for place in _PLACE.findall(one)}
        # "One alert" may leave the number out; no form may name a value that is not there.
        if not all(set(_PLACE.findall(one)) <= places for one in given) or set(_PLACE.findall(given[-1])) != set(
            _PLACE.findall(expected[-1])
        ):
            other_places.append(expected[0])
    assert missing == [], "run `make messages`, and translate what it says"
    assert other_places == []


def test_texts_in_code_and_templates_are_extracted(translations: ModuleType) -> None:
    texts = {text if isinstance(text, str) else text[0] for text, _context in translations.collect()}
    assert {"Acknowledge", "Skip to the content", "Connection lost {since}. Data may be out of date."} <= texts


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
