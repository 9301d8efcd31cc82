"""Writes docs/reference/reason-codes.md, every reason code with its templates. Run by `make reference`.

The codes are read from the source, as `make messages` reads the templates. A test says when the file is out of date.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "tocsin"
DOCUMENT = ROOT / "docs" / "reference" / "reason-codes.md"

INTRODUCTION = """\
# Reason codes

What Tocsin stores or decides by has a stable code and parameters. The API answers them as `code` and `data` of a
reason, beside its `text`: decide by them, never by the sentence. A text that is only shown has an empty code.
The names in braces are the parameters; `count` chooses between the two sentences of a code that has two.

A parameter (`ReasonParameter` in the OpenAPI document) is a text, a whole number, a list, or one of these objects:
`{"at": moment}`, `{"day": date}`, `{"seconds": duration}`, `{"seconds_ago": duration}`, `{"term": fixed English word}`,
`{"name": person, "user": id or null}`, `{"alert": number}`, and `{"code": …, "data": …}` for another reason.

This page is written by `make reference`.
"""


def main() -> None:
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """The whole page: one table for each area, which is the code's first part."""
    areas: dict[str, list[str]] = {}
    for code, templates in sorted(reason_types()):
        area, row = code.partition(".")[0], f"| `{code}` | {' / '.join(map(_cell, templates))} |"
        areas.setdefault(area, []).append(row)
    tables = (
        f"\n## {area}\n\n| code | sentence |\n|---|---|\n" + "\n".join(rows) + "\n" for area, rows in areas.items()
    )
    return INTRODUCTION + "".join(tables)


def reason_types(folder: Path = PACKAGE) -> Iterator[tuple[str, list[str]]]:
    """The code and the templates of each `ReasonType` in the source below a folder."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ReasonType":
                code, *templates = (ast.literal_eval(argument) for argument in node.args)
                plural = (ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg == "plural")
                yield code, [*templates, *plural]


def _cell(text: str) -> str:
    """A template in a cell of a table: nothing in it is markup."""
    return text.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("\n", " ")


if __name__ == "__main__":
    main()
