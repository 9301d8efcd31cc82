"""`tocsin apply` prints the changes of a YAML configuration and applies them in one transaction; `tocsin export` prints
it.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import FILE_TOO_LARGE, FILE_UNREADABLE, FILE_UNWRITABLE, Rejected
from tocsin.core.reasons import Term, Text, sentence
from tocsin.core.runtime import clock

if TYPE_CHECKING:
    from tocsin.configure.plan import ConfigPlan


def apply(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="The YAML files, read as one configuration.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without applying it.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="Delete objects missing from the files, for each top-level key that they contain."
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Apply a YAML configuration.

    Prints a plan (create, update, unchanged, delete) and applies it in one transaction. A second run changes nothing.
    """
    from tocsin.configure import yaml_loader

    documents = [yaml_loader.read(file) for file in files]
    with open_database(data_dir):
        from tocsin.configure import config_files, plan

        sources = config_files.collect(documents)
        if dry_run:
            _print(plan.preview(sources, prune=prune, now=clock.now()))
            typer.echo("Nothing was changed: this was a dry run.")
        else:
            applied = plan.apply(sources, prune=prune, now=clock.now(), on_plan=_print)
            typer.echo("Nothing to do." if applied.is_empty else "Done.")


def _print(config_plan: ConfigPlan) -> None:
    from tocsin.configure.plan import PlanAction

    for line in config_plan.lines:
        typer.echo(str(line))
    counts = [
        f"{config_plan.count(change)} {_ACTION_LABELS[change]}" for change in PlanAction if config_plan.count(change)
    ]
    typer.echo(f"{', '.join(counts)}." if counts else "The files say nothing.")


_ACTION_LABELS = {"create": "to create", "update": "to update", "unchanged": "unchanged", "delete": "to delete"}


def export(
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Include tokens and passwords. Keep the output secret.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Print the configuration as YAML.

    Applying the output changes nothing.
    """
    with open_database(data_dir):
        from tocsin.configure import plan

        text = plan.write(plan.export_configuration(with_secrets=with_secrets))
    typer.echo(text, nl=False)


# ---------- catalogue
# `tocsin catalogue`: lists the integration types of this version, scaffolds a new one, and checks files.
#
# The types are part of the package, not of the data directory; `--data-dir` is accepted for consistency.


app = typer.Typer(help="Manage inbound integration types.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Lists and creates types of inbound integrations."""


@app.command("list")
def list_kinds(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of docs/reference/catalogue.md.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """List the integration types.

    Prints the name, title, category and purpose of each.
    """
    from tocsin.catalogue.kinds import load_kinds, table

    if markdown:
        typer.echo(table())
        return
    kinds = load_kinds().values()
    width = max(len(kind.name) for kind in kinds)
    for kind in kinds:
        typer.echo(f"{kind.name:{width}}  {kind.title}: {kind.description}")


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The folder's name, such as uptime_kuma.")],
    title: Annotated[str | None, typer.Option(help="The tool's name. Default: derived from NAME.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder of integration types. Default: the built-in one.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Create an integration type.

    Creates a folder with a manifest, a guide and samples that works unchanged.
    """
    from tocsin.catalogue import scaffold

    display_title = title or name.replace("_", " ").title()
    for path in scaffold.create_kind(name, display_title, folder or scaffold.KINDS):
        typer.echo(path)
    typer.echo(
        "\nReplace the samples by the tool's documented payloads, then the mapping, the rules and the guide; then:\n"
        f"  pytest tests/unit/catalogue tests/store/catalogue/test_catalogue_samples.py -k {name}\n"
        "  tocsin catalogue list --markdown   # into the table of docs/reference/catalogue.md",
        err=True,
    )


@app.command()
def check(
    folder: Annotated[
        Path | None, typer.Argument(help="A type's folder, or the folder of all. Default: the built-in ones.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Check how ticket systems are written to.

    Reads each outbound.toml with its recorded answers, and names every mistake with file, line and remedy.
    """
    from tocsin.catalogue import desks

    problems = desks.check_files(folder or desks.KINDS)
    for problem in problems:
        typer.echo(f"{problem.file}:{problem.line}: {problem.reason}")
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(desks.files_to_check(folder or desks.KINDS))} files, no problems.")


# ---------- imports
# `tocsin import`: converts another product's users, schedules, policies and integrations to YAML, with a report.


if TYPE_CHECKING:
    from tocsin.importers.config_builder import Product

_NOT_UTF8 = Text("it is not UTF-8")

imports_app = typer.Typer(
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


@imports_app.command()
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


@imports_app.command()
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


@imports_app.command("grafana-oncall")
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


@imports_app.command()
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
    from tocsin.importers.import_runs import PRODUCTS

    product = PRODUCTS[name]
    # Read the key before the database is opened, so that a missing key is reported at once.
    key = "" if export is not None else _key(product, key_file)
    with open_database(data_dir):
        from tocsin.configure import plan as yaml
        from tocsin.importers.config_builder import as_text, describe_count
        from tocsin.importers.import_runs import existing_users, fetch

        now = clock.now()
        if export is None:
            say = lambda progress: typer.echo(str(progress), err=True)  # noqa: E731
            documents = fetch(product, key, api_base, now, say)
        else:
            assert product.read_export is not None
            documents = product.read_export(_read(export))
        converted = product.convert(documents, now, existing_users(now), with_keys=with_keys)
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


def _key(product: Product, key_file: Path | None) -> str:
    if key_file is None:
        key = os.environ.get(product.key_variable, "")
        if not key:
            raise Rejected(
                "missing",
                sentence(
                    "An API key is required. Set ${variable}, or pass its file with --key-file (- for stdin). Create "
                    "the key in {product} under {location}.",
                    variable=product.key_variable,
                    product=product.title,
                    location=product.key_location,
                ),
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
    """Return an exported file, or a folder of JSON files as a ZIP file."""
    if not path.is_dir():
        return _read_file(path, _MAX_FILE_BYTES)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in sorted(path.rglob("*.json")):
            archive.write(file, file.relative_to(path))
    return buffer.getvalue()


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Return a file, or standard input for -."""
    try:
        with nullcontext(typer.get_binary_stream("stdin")) if str(path) == "-" else path.open("rb") as file:
            content: bytes = file.read(max_bytes + 1)
    except OSError as error:
        raise Rejected("unreadable", FILE_UNREADABLE(file=str(path), error=error.strerror or str(error))) from None
    if len(content) > max_bytes:
        raise Rejected("too_large", FILE_TOO_LARGE(file=str(path), limit=max_bytes >> 20))
    return content


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, because it contains phone numbers and possibly keys."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except OSError as error:
        raise Rejected("unwritable", FILE_UNWRITABLE(file=str(path), error=error.strerror or str(error))) from None


# ---------- simulate
# `tocsin simulate`: runs a payload through the complete chain at a given time, without sending anything.


_NOT_A_TIME = Text('--at: "{text}" is not a time; write it like 2026-12-25T03:00.')

#: The same limit as for messages posted to an integration.
_MAX_BODY_BYTES = 5 * 1024 * 1024


def simulate(
    payload: Annotated[
        Path, typer.Argument(metavar="PAYLOAD.json", help="The payload: a file, or - for standard input.")
    ],
    integration: Annotated[str, typer.Option(metavar="NAME", help="The integration that receives it.")],
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="Time of receipt, such as 2026-12-25T03:00, by default in the installation's time zone. Default: now.",
            show_default=False,
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every step of the mapping.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Show what a payload would do.

    Prints the mapping, rule, route and alert, and who is notified by which channel, when and why. Nothing is sent or
    stored.
    """
    body = _read_file(payload, _MAX_BODY_BYTES)
    with open_database(data_dir):
        from tocsin.core.config import settings_store
        from tocsin.inbound.config.registry import UnknownIntegration
        from tocsin.inbound.models import Integration
        from tocsin.resources.resource import NO_SUCH_OBJECT
        from tocsin.simulate import chain

        zone = ZoneInfo(settings_store.get(settings_store.TIME_ZONE))
        row = Integration.objects.filter(name__iexact=integration).first()
        if row is None:
            raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("integration"), name=integration), "integration")
        try:
            simulation = chain.simulate(row, body, "application/json", _parse_time(at, zone) or clock.now())
        except UnknownIntegration:
            raise Rejected("not_compiled", chain.NOT_COMPILED(integration=row.name)) from None
    if as_json:
        typer.echo(json.dumps(chain.as_json(simulation), ensure_ascii=False, indent=2))
    else:
        typer.echo(chain.as_text(simulation, zone), nl=False)


def _parse_time(text: str, zone: ZoneInfo) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Rejected("invalid", _NOT_A_TIME(text=text), "at") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(UTC)
