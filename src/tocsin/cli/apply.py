"""`tocsin apply` prints the changes of a YAML configuration and applies them in one transaction; `tocsin export` prints
it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tocsin.cli.session import DataDir, open_database

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
        from tocsin.core.runtime import clock

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
        from tocsin.configure import export as exported

        text = exported.write(exported.export_configuration(with_secrets=with_secrets))
    typer.echo(text, nl=False)
