"""`tocsin simulate`: runs a payload through the complete chain at a given time, without sending anything."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import FILE_TOO_LARGE, FILE_UNREADABLE, Rejected
from tocsin.core.reasons import ReasonType, Term
from tocsin.simulate.reasons import NOT_COMPILED

_NOT_A_TIME = ReasonType("simulate.not_a_time", '--at: "{text}" is not a time; write it like 2026-12-25T03:00.')

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
    body = _read(payload)
    with open_database(data_dir):
        from tocsin.core.config import settings_store
        from tocsin.core.runtime import clock
        from tocsin.inbound.config.registry import UnknownIntegration
        from tocsin.inbound.models import Integration
        from tocsin.resources.lookup import NO_SUCH_OBJECT
        from tocsin.simulate import chain, report

        zone = ZoneInfo(settings_store.get(settings_store.TIME_ZONE))
        row = Integration.objects.filter(name__iexact=integration).first()
        if row is None:
            raise Rejected("not_found", NO_SUCH_OBJECT(label=Term("integration"), name=integration), "integration")
        try:
            simulation = chain.simulate(row, body, "application/json", _parse_time(at, zone) or clock.now())
        except UnknownIntegration:
            raise Rejected("not_compiled", NOT_COMPILED(integration=row.name)) from None
    if as_json:
        typer.echo(json.dumps(report.as_json(simulation), ensure_ascii=False, indent=2))
    else:
        typer.echo(report.as_text(simulation, zone), nl=False)


def _read(payload: Path) -> bytes:
    try:
        body = (
            typer.get_binary_stream("stdin").read(_MAX_BODY_BYTES + 1) if str(payload) == "-" else payload.read_bytes()
        )
    except OSError as error:
        raise Rejected("unreadable", FILE_UNREADABLE(file=str(payload), error=error.strerror or str(error))) from None
    if len(body) > _MAX_BODY_BYTES:
        raise Rejected("too_large", FILE_TOO_LARGE(file=str(payload), limit=_MAX_BODY_BYTES >> 20))
    return body


def _parse_time(text: str, zone: ZoneInfo) -> datetime | None:
    if not text:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Rejected("invalid", _NOT_A_TIME(text=text), "at") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(UTC)
