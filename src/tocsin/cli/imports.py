"""`tocsin import`: converts another product's users, schedules, policies and integrations to YAML, with a report."""

from __future__ import annotations

import io
import os
import zipfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import FILE_TOO_LARGE, FILE_UNREADABLE, FILE_UNWRITABLE, Rejected
from tocsin.core.reasons import ReasonType

if TYPE_CHECKING:
    from tocsin.importers.products import Product, ProductDocuments

_NOT_UTF8 = ReasonType("import.key_not_utf8", "it is not UTF-8")
_NO_KEY = ReasonType(
    "import.api_key_not_given",
    "An API key is required. Set ${variable}, or pass its file with --key-file (- for stdin). Create "
    "the key in {product} under {location}.",
)

app = typer.Typer(
    help="Import from another product: writes YAML for `tocsin apply`, and reports the differences.",
    no_args_is_help=True,
)

#: Maximum size of an exported file.
_MAX_FILE_BYTES = 64 * 1024 * 1024

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", metavar="FILE", help="The file with the API key, or - for standard input.", show_default=False
    ),
]
Base = Annotated[str, typer.Option("--api-base", metavar="URL", help="The API's base URL. Default: the product's.")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="File for the YAML. Default: stdout.", show_default=False),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="File for the report, in addition to stderr.", show_default=False),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="An export (file or folder) instead of the API.", show_default=False),
]
WithKeys = Annotated[
    bool,
    typer.Option("--with-keys", help="Keep readable keys of senders as tokens. They are included in the YAML."),
]


@app.command()
def opsgenie(
    key_file: KeyFile = None,
    api_base: Base = "",
    export: From = None,
    output: Output = None,
    report: Report = None,
    with_keys: WithKeys = False,
    data_dir: DataDir = None,
) -> None:
    """Import from Opsgenie.

    Reads the account by its API, with the key in $OPSGENIE_API_KEY or --key-file, or reads an export (--from).
    """
    _import("opsgenie", key_file, api_base, export, output, report, with_keys, data_dir)


@app.command()
def pagerduty(
    key_file: KeyFile = None,
    api_base: Base = "",
    output: Output = None,
    report: Report = None,
    with_keys: WithKeys = False,
    data_dir: DataDir = None,
) -> None:
    """Import from PagerDuty.

    Reads the account by its REST API, with the key in $PAGERDUTY_API_KEY or --key-file.
    """
    _import("pagerduty", key_file, api_base, None, output, report, with_keys, data_dir)


@app.command("grafana-oncall")
def grafana_oncall(
    key_file: KeyFile = None,
    api_base: Base = "",
    output: Output = None,
    report: Report = None,
    data_dir: DataDir = None,
) -> None:
    """Import from Grafana OnCall.

    Reads the account by its API at --api-base, with the token in $GRAFANA_ONCALL_API_KEY or --key-file.
    """
    _import("grafana-oncall", key_file, api_base, None, output, report, False, data_dir)


@app.command()
def alertops(
    key_file: KeyFile = None,
    api_base: Base = "",
    output: Output = None,
    report: Report = None,
    data_dir: DataDir = None,
) -> None:
    """Import from AlertOps.

    Reads the account by its API v2, with the key in $ALERTOPS_API_KEY or --key-file.
    """
    _import("alertops", key_file, api_base, None, output, report, False, data_dir)


def _import(
    name: str,
    key_file: Path | None,
    api_base: str,
    export: Path | None,
    output: Path | None,
    report: Path | None,
    with_keys: bool,
    data_dir: Path | None,
) -> None:
    from tocsin.importers.products import PRODUCTS

    product = PRODUCTS[name]
    # Read the key before the database is opened, so that a missing key is reported at once.
    key = "" if export is not None else _key(product, key_file)
    with open_database(data_dir):
        from tocsin.configure import export as yaml
        from tocsin.core.runtime import clock
        from tocsin.importers import existing_users
        from tocsin.importers.report import as_text, describe_count

        now = clock.now()
        documents = _documents(product, key, api_base, export, now)
        converted = product.convert(documents, now, existing_users.users(now), with_keys=with_keys)
    text = yaml.write(dict(converted.configuration))
    report_text = as_text(converted)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
    if report is not None:
        _write(report, report_text)
    typer.echo(report_text, err=True, nl=False)
    counts = ", ".join(describe_count(key, count) for key, count in converted.counts().items())
    lines = f"{len(converted.findings)} {'line' if len(converted.findings) == 1 else 'lines'}"
    typer.echo(f"{counts or 'Nothing'} from {product.title}; {lines} in the report.", err=True)
    if output is not None:
        typer.echo(f"Next: tocsin apply {output} --dry-run", err=True)


def _documents(product: Product, key: str, api_base: str, export: Path | None, now: datetime) -> ProductDocuments:
    from tocsin.importers.products import fetch

    if export is None:
        return fetch(product, key, api_base, now, lambda progress: typer.echo(str(progress), err=True))
    assert product.read_export is not None
    return product.read_export(_read(export))


def _key(product: Product, key_file: Path | None) -> str:
    if key_file is None:
        key = os.environ.get(product.key_variable, "")
        if not key:
            raise Rejected(
                "missing",
                _NO_KEY(variable=product.key_variable, product=product.title, location=product.key_location),
            )
        return key
    if str(key_file) == "-":
        return typer.get_text_stream("stdin").readline()
    try:
        return key_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else _NOT_UTF8()
        raise Rejected("unreadable", FILE_UNREADABLE(file=str(key_file), error=reason)) from None


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            return _zipped(path)
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Rejected("unreadable", FILE_UNREADABLE(file=str(path), error=error.strerror or str(error))) from None
    if len(content) > _MAX_FILE_BYTES:
        raise Rejected("too_large", FILE_TOO_LARGE(file=str(path), limit=_MAX_FILE_BYTES // 1024 // 1024))
    return content


def _zipped(folder: Path) -> bytes:
    """Return a folder of JSON files as a ZIP file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.json")):
            archive.write(path, path.relative_to(folder))
    return buffer.getvalue()


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, because it contains phone numbers and possibly keys."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError as error:
        raise Rejected("unwritable", FILE_UNWRITABLE(file=str(path), error=error.strerror or str(error))) from None
