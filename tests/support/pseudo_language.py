"""A language made of brackets: every translated text is "¡text¿", so that what is not translated stands out.

Both brackets are in the alphabet of text messages. The values of placeholders stay outside of the brackets:
"¡Assigned to ¿Ann¡.¿".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import allauth
import django
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.test import override_settings
from django.utils.translation import trans_real

ROOT = Path(__file__).resolve().parents[2]

#: Django knows the name of this language, and Tocsin has no catalogue of it.
CODE = "eo"

#: Where others' English texts are, in the package's own catalogue of any language.
_OTHERS = (
    Path(django.__file__).parent / "conf/locale/en/LC_MESSAGES/django.po",
    Path(django.__file__).parent / "contrib/auth/locale/en/LC_MESSAGES/django.po",
    Path(allauth.__file__).parent / "locale/de/LC_MESSAGES/django.po",
)

_PLACE = re.compile(r"(%\([a-z_0-9]+\)[a-z.0-9]*[a-z]|%[a-z%]|\{[a-z_0-9]*\}|<[^<>]*>|\n)", re.IGNORECASE)
_BRACKETS = re.compile(r"¡[^¡¿]*¿")
_TAG = re.compile(r"<[^<>]*>")
#: A word of a language: what has digits or underscores in it is a name.
_WORD = re.compile(r"(?<!\w)[^\W\d_]{2,}(?!\w)")


@contextmanager
def pseudo_language(folder: Path) -> Iterator[None]:
    """Offers the language, whose catalogue is compiled into `folder`."""
    path = folder / CODE / "LC_MESSAGES" / "django.mo"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        write_mo(file, _catalog())
    offered = [("en", "English"), (CODE, "Esperanto")]
    try:
        with override_settings(LOCALE_PATHS=[folder], LANGUAGES=offered):
            _forget()
            yield
    finally:
        _forget()


def _forget() -> None:
    trans_real.get_languages.cache_clear()


def _catalog() -> Catalog:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import translations
    finally:
        sys.path.pop(0)
    catalog = Catalog(locale=CODE, domain="django", fuzzy=False)
    for path in _OTHERS:
        with path.open("rb") as file:
            for message in read_po(file, domain="django"):
                if message.id:
                    _add(catalog, message.id, message.context)
    for text, context in translations.collect():
        _add(catalog, text, context)
    return catalog


def _add(catalog: Catalog, text: str | tuple[str, ...], context: str | None) -> None:
    is_format = (context is not None and ("format" in context or "date" in context)) or str(text).isupper()
    texts = (text,) if isinstance(text, str) else tuple(text)
    shown = texts if is_format else tuple(bracketed(one) for one in texts)
    catalog.add(text, shown[0] if isinstance(text, str) else shown, context=context)


def bracketed(text: str) -> str:
    """Puts what stands between the placeholders and tags of a text into brackets."""
    return "".join(
        part if not part or _PLACE.fullmatch(part) or not part.strip() else f"¡{part}¿" for part in _PLACE.split(text)
    )


def untranslated_words(text: str) -> set[str]:
    """Returns the words outside of brackets."""
    before = ""
    while before != text:
        before, text = text, _BRACKETS.sub(" ", text)
    # `<subject>` is a placeholder that a person fills in a template.
    return set(_WORD.findall(_TAG.sub(" ", text)))


class PageTexts(HTMLParser):
    """Collects what a page shows: its texts, and the attributes that are shown or read aloud.

    Code, names in the type of code, and keys of the keyboard are the same in every language.
    """

    _SAME = frozenset({"script", "style", "code", "pre", "textarea", "svg", "kbd"})
    _SHOWN = ("title", "aria-label", "placeholder", "alt", "label")
    _VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "use", "wbr", "col", "source", "base"})

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        #: The open elements: the tag, and whether its texts are the same in every language.
        self._open: list[tuple[str, bool]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = str(dict(attrs).get("class") or "").split()
        is_same = tag in self._SAME or "mono" in classes or bool(self._open and self._open[-1][1])
        if not is_same:
            self.texts += [value for name, value in attrs if name in self._SHOWN and value]
        if tag not in self._VOID:
            self._open.append((tag, is_same))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not self._open or not self._open[-1][1]:
            self.texts.append(data)


def words_of_page(html: str) -> set[str]:
    """Returns the words of a page that are outside of brackets."""
    page = PageTexts()
    page.feed(html)
    # Texts that are split by tags share their brackets.
    return untranslated_words("\x1f".join(page.texts))
