"""Writes docs/reference/catalogue-corpus.md: what becomes of changed forms of every sample, by type. Run by
`make reference`; a test says when the file is out of date.
"""

import os
import sys
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "reference" / "catalogue-corpus.md"

INTRODUCTION = """\
# How types read other forms of their messages

Every sample of the [catalogue](catalogue.md) that opens or closes an alert is also read in forms that its type was
not made for: fields in another order, wrapped in one more object, as a form and as a GET query, without each of its
fields, with the status in another spelling, and with the field names of three other guides. A message is *as the
sample* if it does the same with the same id, and *opened or refused aloud* if people notice it: an alert opens,
`Mapping Failed` is reported, or Home counts it as not understood. None may be ignored silently; a test checks that.

This page is written by `make reference`.

"""


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: a row for each type."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tocsin.settings")
    django.setup()
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests.catalogue_corpus.measure import Outcome, measure

    rows = ["| type | forms | " + " | ".join(Outcome) + " |", "|---|---|" + "---|" * len(Outcome)]
    for kind, figures in sorted(measure().items()):
        counts = " | ".join(str(figures.outcomes[outcome]) for outcome in Outcome)
        rows.append(f"| `{kind}` | {figures.outcomes.total()} | {counts} |")
    return INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
