"""Texts for users use the field's words: phrases that were replaced once do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tocsin"
GERMAN = PACKAGE / "web" / "locale" / "de" / "LC_MESSAGES" / "django.po"

#: English phrases, and the words that stand for them. Spaces also match line breaks; case does not matter.
ENGLISH = {
    r"nobody": "no one",
    r"somebody": "someone",
    r"everybody": "everyone",
    r"whoever": "the user who",
    r"in vain": "say what happened",
    r"all the same": "leave it out",
    r"told(?! apart)": "notified, said",
    r"so (many|much)": "the number",
    r"e-mails?|mails|mailed": "email",
    r"^is needed": "is required",
    r"switch(es|ed)? (it )?off": "disable",
    r"stand-in|rota": "override, rotation",
    r"take it|takes it": "Assign to me",
    r"gives? it back": "Unassign",
    r"(wake|waking) the next": "Escalate now",
    r"(?<!\w\s)who has it": "assignee",
    r"comes? back from hold": "Snooze ends",
    r"no alert fits|take a filter away": "No matching alerts; clear filters",
    r"contact rules|ways by priority|add a way": "notification rules, contact method",
    r"comes all the same": "Overrides quiet hours",
    r"make a token": "Create token",
    r"waits for its code": "Pending verification",
    r"calendar program|get an address": "calendar app, Create feed URL",
    r"hands over every|places moved": "Rotates every, rotation step",
    r"always so far|no change in sight": "Always, No upcoming change",
    r"further passes": "Repeat",
    r"escalations at work": "running escalations",
    r"tell people|but not where|one after another:": "Notify, Except when, Actions",
    r"looks again|look again": "re-run",
    r"what it (comes to|would do)": "Preview",
    r"what sends to tocsin": "Choose an integration",
    r"an alert may open": "Filters",
    r"as it is / with this": "Current / Proposed",
    r"nothing has gone by": "No messages sent yet",
    r"no live alert": "No active alert",
    r"half within|nine of ten within": "p50, p90",
    r"forgot the password": "Forgot password",
    r"must be longer than nothing": "must be greater than zero",
    r"still needs? it": "is used by",
    r"this is no cursor": "Invalid cursor",
    r"(cannot|can't) be decrypted": "The configured secret keys don't decrypt …",
    r"search everything": "Search",
    r"waiting for an answer": "Waiting for acknowledgement",
    r"there is no (user|group|schedule|shift|integration|contact method) [\"“{*]": "No … named …",
    r"by hand": "manually",
}

GERMAN_PHRASES = {
    r"gerufen|rufen(?![^.]*\b(an|auf)\b)|riefe|Rufe?": "benachrichtigen; anrufen",
    r"ruft(?![^.]*\b(an|auf)\b)": "benachrichtigt",
    r"Eskalationspl[aä]ne?s?": "Eskalationsrichtlinie",
    r"alle (Ersten|Zweiten)|erste Person sofort": "primär, sekundär",
    r"Den Alarm verwerfen|Verworfen": "als Fehlalarm schließen",
    r"(?<!-)(Eing[aä]nge?s?|Ausg[aä]nge?s?)": "Integration",
    r"(?<!-)Meldung(en)?": "Nachricht",
    r"(?<!-)Mails?": "E-Mail",
    r"Lebenszeichen": "Heartbeat",
}


def pattern(phrases: dict[str, str], flags: int = 0) -> re.Pattern[str]:
    words = "|".join(rf"\b(?:{phrase.replace(' ', r'\s+')})(?!\w)" for phrase in phrases)
    return re.compile(words, flags)


IN_ENGLISH = pattern(ENGLISH, re.IGNORECASE)
IN_GERMAN = pattern(GERMAN_PHRASES)

#: Calls whose strings are shown, and keywords that describe the API, YAML and the command line.
CALLS = frozenset(
    [
        "_",
        "gettext",
        "gettext_lazy",
        "gettext_noop",
        "ngettext",
        "ngettext_lazy",
        "pgettext",
        "pgettext_lazy",
        "npgettext",
        "phrase",
        "translatable",
        "ReasonType",
        "Text",
        "sentence",
        "Term",
        "ProviderSetting",
        "IntegrationSetting",
        "ConnectorKind",
    ]
)
KEYWORDS = frozenset(["description", "summary", "help", "title", "label", "about"])
TEMPLATE_TEXT = re.compile(
    r'{%\s*translate\s+"([^"]*)"|_\("([^"]*)"\)|{%\s*blocktranslate[^%]*%}(.*?){%\s*endblocktranslate', re.DOTALL
)
JS_TEXT = re.compile(r"\"([^\"\n]* [^\"\n]*)\"|`([^`\n]* [^`\n]*)`")
NOT_PROSE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`|\]\([^)]*\)", re.DOTALL | re.MULTILINE)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a file shows to users."""
    source = path.read_text(encoding="utf-8")
    match path.suffix:
        case ".py":
            yield from _in_python(ast.parse(source))
        case ".md":
            yield 1, NOT_PROSE.sub(lambda code: re.sub(r"[^\n]", "", code[0]), source)
        case ".toml":
            for found in re.finditer(r'^(?:title|description|help) = "(.*)"$', source, re.MULTILINE):
                yield source.count("\n", 0, found.start()) + 1, found[1]
        case suffix:
            for found in (JS_TEXT if suffix == ".js" else TEMPLATE_TEXT).finditer(source):
                yield source.count("\n", 0, found.start()) + 1, next(filter(None, found.groups()), "")


def _in_python(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        shown = [*node.args, *(word.value for word in node.keywords)] if name in CALLS else []
        shown += [word.value for word in node.keywords if word.arg in KEYWORDS]
        for value in shown:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and " " in value.value:
                yield value.lineno, value.value


def hits(path: Path, forbidden: re.Pattern[str]) -> Iterator[str]:
    for line, text in texts(path):
        for found in forbidden.finditer(text):
            yield f"{path.relative_to(ROOT)}:{line + text.count('\n', 0, found.start())}: {found[0]!r}"


def sources() -> list[Path]:
    return [
        *(p for p in PACKAGE.rglob("*.py") if "migrations" not in p.parts),
        *PACKAGE.rglob("templates/**/*.html"),
        *PACKAGE.rglob("templates/**/*.txt"),
        *PACKAGE.glob("web/static/tocsin/*.js"),
        *PACKAGE.glob("catalogue/kinds/*/integration.toml"),
        *PACKAGE.glob("catalogue/kinds/*/guide.md"),
        *(ROOT / "docs").rglob("*.md"),
        ROOT / "README.md",
        ROOT / "SECURITY.md",
    ]


def test_english_texts_have_no_forbidden_phrase() -> None:
    assert not sorted(hit for path in sources() for hit in hits(path, IN_ENGLISH))


def test_german_texts_have_no_forbidden_phrase() -> None:
    found = [hit for path in PACKAGE.glob("catalogue/kinds/*/guide.de.md") for hit in hits(path, IN_GERMAN)]
    with GERMAN.open("rb") as file:
        for message in read_po(file):
            if message.id:
                for text in message.string if isinstance(message.string, tuple) else (message.string or "",):
                    found += [
                        f"{GERMAN.relative_to(ROOT)}:{message.lineno}: {hit[0]!r}" for hit in IN_GERMAN.finditer(text)
                    ]
    assert not found


@pytest.mark.parametrize(
    ("name", "source", "line"),
    [
        ("reason.py", 'A = 1\nB = ReasonType("a.b", "Nobody is paged.")\n', 2),
        ("page.html", '\n\n{% translate "Nobody is paged." %}\n', 3),
        ("guide.md", "# Title\n\n```\nnobody\n```\n`nobody`\nThis pages\nnobody.\n", 8),
        ("page.js", '// nobody\nsay("nobody is paged");\n', 2),
    ],
)
def test_forbidden_phrase_is_reported_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str, line: int
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / name
    path.write_text(source, encoding="utf-8")
    assert [hit.lower() for hit in hits(path, IN_ENGLISH)] == [f"{name}:{line}: 'nobody'"]
