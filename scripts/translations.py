"""`make messages`: brings the catalogues of translations up to date with the texts in code and templates.

With --compile it makes from them what Django reads (.mo). A text that is new has no translation yet, and is shown in
English; one that no code has any more is left out. `make test` warns of what is missing, a release needs `WHOLE`.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tocsin"
LOCALE = PACKAGE / "web" / "locale"
DOMAIN = "django.po"
PLACEHOLDER = re.compile(r"\{\w+\}")
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)

#: Languages that a release has whole. Any other is offered with the percentage that is translated.
WHOLE = ("de",)

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
    # `notify.text.formatting`: the language, and the text.
    "phrase": (2,),
    # In it too: the context, and the text.
    "spoken_phrase": ((1, "c"), 2),
    # `core.reasons`: a text that is shown elsewhere.
    "translatable": None,
}

type Text = tuple[str | tuple[str, ...], str | None]


def main() -> None:
    if "--compile" in sys.argv[1:]:
        for path in sorted(LOCALE.glob(f"*/LC_MESSAGES/{DOMAIN}")):
            with path.with_suffix(".mo").open("wb") as compiled:
                write_mo(compiled, compilable(read(path)))
        return
    texts = list(collect())
    for path in sorted(LOCALE.glob(f"*/LC_MESSAGES/{DOMAIN}")):
        catalog = update(read(path), texts)
        with path.open("wb") as written:
            write_po(written, catalog, width=120, no_location=True, sort_output=True, ignore_obsolete=True)
        print(f"{path.relative_to(ROOT)}: {len(catalog)} texts, {len(untranslated(catalog))} without a translation")


def read(path: Path) -> Catalog:
    """A catalogue; its language is the name of its folder."""
    with path.open("rb") as file:
        return read_po(file, locale=path.parent.parent.name, domain="django")


def update(before: Catalog, texts: list[Text]) -> Catalog:
    """A catalogue of just these texts, with the translations that there are. Nothing is guessed from similar ones."""
    after = Catalog(
        locale=before.locale,
        domain="django",
        header_comment="# Tocsin's texts. `make messages` brings this file up to date; the texts are in the code.",
        project="Tocsin",
        version="1",
        msgid_bugs_address="see CONTRIBUTING.md",
        last_translator="The Tocsin authors",
        language_team="Tocsin",
        # No time of writing: the file is the same whenever it is made from the same texts.
        creation_date=MADE_AT,
        revision_date=MADE_AT,
        fuzzy=False,
    )
    for text, context in texts:
        single = text if isinstance(text, str) else text[0]
        known = before.get(single, context)
        string = known.string if known is not None and known.id == text else None
        flags = known.flags - {"fuzzy"} if known is not None else ()
        after.add(text, string, context=context, flags=flags)
    return after


def compilable(catalog: Catalog) -> Catalog:
    """The translations alone, and in what a choice of languages says of one that is not whole: "Français · 60 %"."""
    total, missing = len(catalog), untranslated(catalog)
    for message in missing:
        catalog.delete(message.id, message.context)
    if missing:
        catalog.add("{language}", f"{{language}} · {100 * len(catalog) // total} %")
    return catalog


def untranslated(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id and not is_translated(message.string)]


def release_problems() -> list[str]:
    """Of each language that a release has whole, how many texts lack a translation."""
    texts = list(collect())
    counts = {
        language: len(untranslated(update(read(LOCALE / language / "LC_MESSAGES" / DOMAIN), texts)))
        for language in WHOLE
    }
    return [
        f"{count} texts have no translation into {name}: `make messages`" for name, count in counts.items() if count
    ]


def is_translated(string: str | tuple[str, ...] | None) -> bool:
    """Whether a text, and each of its plural forms, has a translation."""
    return bool(string) and (isinstance(string, str) or all(string))


def collect() -> Iterator[Text]:
    """Every text that is to be translated, once, in the order of files."""
    seen: set[Text] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield from _new(_in_python(path.read_bytes()), seen)
    for suffix in ("html", "txt"):
        for path in sorted(PACKAGE.rglob(f"templates/**/*.{suffix}")):
            yield from _new(_in_template(path.read_text()), seen)
    yield from _new(_described(), seen)


def _described() -> Iterator[Text]:
    """What kinds of integrations, providers and connectors say of themselves: data, which the pages translate."""
    for path in sorted((PACKAGE / "catalogue" / "kinds").glob("*/integration.toml")):
        kind = tomllib.loads(path.read_text())
        for part in (kind, *kind.get("settings", {}).values()):
            yield from ((part[name], None) for name in ("title", "description", "help") if part.get(name))
        rules = kind.get("rules", {})
        yield from ((one["reason"], None) for one in (*rules.get("ignore", ()), *rules.get("veto", ())))
        # Whose guide is in other languages, its samples are called in them too.
        if any(path.parent.glob("guide.*.md")):
            for sample in sorted(path.parent.glob("samples/*.expected.toml")):
                yield tomllib.loads(sample.read_text())["title"], None
    for path in sorted((PACKAGE / "catalogue" / "kinds").glob("*/outbound*.toml")):
        desk = tomllib.loads(path.read_text())
        for part in (desk, *desk["settings"].values()):
            yield from ((part[name], None) for name in ("title", "description", "help") if part.get(name))
    for folder in ("notify/channels", "notify/integrations", "outbound/connectors"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            for text in _said_of_itself(ast.parse(path.read_text())):
                yield text, None


def _said_of_itself(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        exprs: list[ast.expr | None] = []
        if isinstance(node, ast.ClassDef):
            named = [part for part in node.body if isinstance(part, ast.Assign | ast.AnnAssign)]
            exprs = [part.value for part in named if _target(part) in ("label", "about", "title", "description")]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("ProviderSetting", "IntegrationSetting", "ConnectorKind")
        ):
            given = {word.arg: word.value for word in node.keywords}
            exprs = [*node.args[1:2], *(given.get(name) for name in ("label", "title", "about", "description", "help"))]
        for value in exprs:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.strip():
                yield value.value


def _target(part: ast.Assign | ast.AnnAssign) -> str:
    target = part.target if isinstance(part, ast.AnnAssign) else part.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


def _new(texts: Iterator[Text], seen: set[Text]) -> Iterator[Text]:
    for text in texts:
        # A template of placeholders only says nothing in any language.
        if text not in seen and (not isinstance(text[0], str) or PLACEHOLDER.sub("", text[0]).strip(" :")):
            seen.add(text)
            yield text


def _in_python(source: bytes) -> Iterator[Text]:
    # Babel counts a trailing comma as an argument more, so that it does not tell the two templates of a reason.
    if any(name in source for name in (b"ReasonType(", b"Text(", b"sentence(", b"Term(")):
        yield from _in_reasons(ast.parse(source))
    if not any(name.encode() in source for name in KEYWORDS):
        return
    for _line, text, _comments, context in extract("python", BytesIO(source), KEYWORDS):
        yield text, context


def _in_reasons(tree: ast.Module) -> Iterator[Text]:
    """The templates of reasons, for one and for another number, and the terms in them."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        texts = tuple(one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str))
        # The first of a `ReasonType` is its code.
        templates = {"ReasonType": texts[1:], "Text": texts[:2], "sentence": texts[:2]}.get(node.func.id)
        if templates:
            yield (templates[0] if len(templates) == 1 else templates), None
        elif node.func.id == "Term" and texts:
            yield texts[0], None


def _in_template(source: str) -> Iterator[Text]:
    from django.utils.translation.template import templatize

    # What is no text becomes blank; what is one, a call of gettext: the lexer for scripts minds no indentation.
    for _line, text, _comments, context in extract("javascript", BytesIO(templatize(source).encode()), KEYWORDS):
        yield text, context


if __name__ == "__main__":
    main()
