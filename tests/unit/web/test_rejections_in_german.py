"""Every rejection and failure message has a German translation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from django.utils import translation

import tocsin
from tocsin.web.told import told

ROOT = Path(tocsin.__file__).parent

#: The rooms whose errors a page shows. What the command line, the API's own rules and vendors' doors say stays English.
ROOMS = (
    "access", "alerts", "catalogue/kinds", "core/validation/naming_rules.py", "core/validation/object_reader.py",
    "core/validation/durations.py", "core/object_hooks.py", "core/config/settings_store.py", "core/net/imap.py",
    "core/net/egress.py", "escalation", "inbound", "notify", "oncall", "outbound", "people",
    "workflows", "operate/checks", "operate/durability.py", "operate/doctor.py",
    "importers/api_reader.py", "importers/import_runs.py", "web",
)  # fmt: skip
#: What only programs get to read: vendors' calls, the passes between nodes, and what stands for an error of our own.
FOR_PROGRAMS = ("inbound/compat", "notify/integrations/slack", "notify/integrations/telegram.py",
                "notify/integrations/telnyx",
                "notify/integrations/twilio/provider.py", "notify/integrations/mail_replies.py")  # fmt: skip
NOT_FOR_PAGES = (
    "tocsin user create NAME",
    "names no kind of its own", "a stored message is one object", "of the escalation policy cannot be read",
    "◦: is written like {◦}", "It is being worked on: send it again",
)  # fmt: skip
#: What stands for other sentences only: an example of each instead.
EXAMPLES = {
    "No provider carries ◦: what is sent by it goes to the sandbox and leaves nowhere◦.": "No provider carries SMS: "
    "what is sent by it goes to the sandbox and leaves nowhere, also the pages of 3 people.",
    "The workflow ◦: ◦ stuck. ◦": "The workflow Tell: 2 runs of it are stuck. It is over already.",
    "◦ could not do ◦: look, and send again. Last: ◦": "Halo could not do 2 things: look, and send again. Last: no.",
    "◦ through another system: look at its log.": "The workflow Loop has reached its limit, and 3 "
    "things were not done. It may go in circles through another system: look at its log.",
    "Halo refuses Tocsin's token when asked to ◦ (401).◦": "Halo refuses Tocsin's token when asked to send its test "
    "(401).",
    "unknown operator '◦'◦; one of ◦": "unknown operator 'contain' (did you mean 'contains'?); one of contains, equals",
    "◦: give the agent's number in Halo.": "ann: give the agent's number in Halo.",
    "Halo refuses to give a token (◦).◦": "Halo refuses to give a token (400). It said: no.",
    "unknown key; ◦": 'unknown key; did you mean "role"?',
    "steps: ◦ ◦": "steps: It can reach nobody: it names nobody. Name somebody who can be reached, or save it anyway "
    "(anyway: true in YAML and the API).",
    'there is no ◦ "◦".': 'there is no schedule "Nights".',
    '◦[◦]: there is no ◦ "◦".': 'groups[0]: there is no group "Desk".',
    '◦: there ◦ ◦ "◦".': 'routes[0].during: there are no support hours "Office".',
    'The ◦ "◦" is in use already.': 'The username "ann" is in use already.',
    "◦ cannot be deleted: ◦ still live. Close them first.": "Halo cannot be deleted: 3 alerts of it are still live. "
    "Close them first.",
    "◦ cannot be deleted: ◦ to open. ◦": "Halo cannot be deleted: 3 alerts of it wait to open. Open them now, or let "
    "them go, first.",
    "The mail ◦.": "The mail has no header lines.",
    "◦ took the request and refused the message◦.": "Discord took the request and refused the message: too long.",
    "◦ is not on call◦ in ◦ from ◦.": "Ann is not on call as primary in Nights from Fri 01 May 08:00 to "
    "Sat 02 May 08:00 (UTC).",
    "◦ ◦ alert ◦ ◦. Nothing to do.": "Ann took alert 7 2 minutes ago. Nothing to do.",
    'there is ◦ "◦" already.': 'there is a schedule "Alpha" already.',
    "Alert ◦ ended ◦; only the last 24 hours can be reopened.": "Alert 7 ended 2 days ago; only the last 24 hours can "
    "be reopened.",
    "Halo could not ◦ now (◦).◦": "Halo could not write a note now (503). Halo said: busy",
    "Halo does not let Tocsin ◦ (◦).◦": "Halo does not let Tocsin write a note (403). It does not say why.",
    "Halo knows nothing there when asked to ◦ (404).◦": "Halo knows nothing there when asked to send its test (404).",
    "Halo answered something else than JSON when asked to ◦: ◦": "Halo answered something else than JSON when asked "
    "to make a ticket: <html>",
}  # fmt: skip

#: Which argument of a call is the sentence.
SENTENCE_OF = {
    "Rejected": 1, "refuse": 1, "rejection": 1, "_refused": 1, "_add": 2, "Temporary": 0, "Permanent": 0,
    "NeedsAttention": 0, "TicketNotFound": 0, "NoteRejected": 0, "IntegrationProblem": 3, "WorkflowProblem": 3,
}  # fmt: skip

#: What may stand in a place: a name, a number, something in quotes, a span, a role, a sentence.
FILLINGS = ("Alpha", "7", '"Alpha"', "5 minutes", "primary", "timed out")


def sentences(path: Path) -> Iterator[tuple[str, int]]:
    """The sentences that a module refuses with, with ◦ for each value in them, and the line of each."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        place = SENTENCE_OF.get(name)
        exprs = (
            node.args[1:3]
            if name in ("HealthFinding", "CoverageFinding", "DurabilityRisk")
            else node.args[place:][:1]
            if place is not None
            else []
        )
        for text in (one for argument in exprs if (one := _text(argument)) is not None):
            yield text, node.lineno


def _text(node: ast.expr) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "◦" for part in parts)
    return None


def is_known(text: str) -> bool:
    if text in EXAMPLES:
        return told(EXAMPLES[text]) != EXAMPLES[text]
    # What begins with its place is told without it.
    text = text.removeprefix("◦: ").removeprefix("◦[◦]: ")
    if not any(character.isalpha() for character in text.replace("◦", "")):
        return True  # only values, each with a sentence of its own
    places = text.count("◦")
    for filling in product(FILLINGS, repeat=places) if places <= 3 else [(one,) * places for one in FILLINGS]:
        filled = text
        for value in filling:
            filled = filled.replace("◦", value, 1)
        if told(filled) != filled:
            return True
    return False


def rooms() -> list[Path]:
    paths = [ROOT / room for room in ROOMS]
    return [
        module
        for path in paths
        for module in ([path] if path.suffix else sorted(path.rglob("*.py")))
        if not str(module.relative_to(ROOT)).startswith(FOR_PROGRAMS)
    ]


def test_a_page_says_every_reason_in_german() -> None:
    with translation.override("de"):
        unknown = [
            f"{module.relative_to(ROOT)}:{line}: {text}"
            for module in rooms()
            for text, line in sentences(module)
            if not any(value in text for value in NOT_FOR_PAGES) and not is_known(text)
        ]
    assert unknown == [], "add a pattern in web/told, `make messages`, and translate it"


@pytest.mark.parametrize("text", ["◦ fell off the table.", "Something that nobody foresaw."])
def test_a_sentence_without_a_pattern_would_be_noticed(text: str) -> None:
    with translation.override("de"):
        assert not is_known(text)
