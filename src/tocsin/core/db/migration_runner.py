"""Applies migrations as Django's own command does, in a third of its time, for which installations and restores wait.

For each operation Django makes new classes of all models that are related to the changed one: here of nearly all of
them, each time. No older class refers to a model that is new, and an index or a constraint can be added to a class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.core.management.sql import emit_post_migrate_signal, emit_pre_migrate_signal
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState

type Migration = tuple[str, str]


def missing() -> list[str]:
    """The migrations that this program knows and the database has not had, in order, as `app.name`.

    Empty too where the database is newer than the program: old code runs on the new schema during an upgrade.
    """
    executor = MigrationExecutor(connection)
    return [f"{migration.app_label}.{migration.name}" for migration, _ in _plan(executor)]


def of_a_newer_program() -> list[str]:
    """The migrations that the database has had and this program does not know, as `app.name`."""
    return [f"{app}.{name}" for app, name in sorted(unknown(MigrationRecorder(connection).applied_migrations()))]


def unknown(migrations: Iterable[Migration]) -> list[Migration]:
    """Those that this program does not know: a newer one made them."""
    known = MigrationLoader(None, ignore_no_migrations=True).disk_migrations
    return [migration for migration in migrations if migration not in known]


def apply_missing() -> None:
    """Applies all of them, and tells whoever listens to Django's signals."""
    executor = MigrationExecutor(connection)
    executor.loader.check_consistent_history(connection)
    plan = _plan(executor)
    emit_pre_migrate_signal(0, False, connection.alias, plan=plan)
    executor.migrate(executor.loader.graph.leaf_nodes(), plan, state=_reached(executor))
    emit_post_migrate_signal(0, False, connection.alias, plan=plan)


def of_nothing(executor: MigrationExecutor) -> ProjectState:
    """The models before the first migration: `executor.migrate` is quick where it begins with it."""
    return _State(real_apps=executor.loader.unmigrated_apps)


def _plan(executor: MigrationExecutor) -> list[tuple[Any, bool]]:
    return executor.migration_plan(executor.loader.graph.leaf_nodes())


def _reached(executor: MigrationExecutor) -> ProjectState:
    """The models as the migrations that were applied have left them."""
    state = of_nothing(executor)
    applied = executor.loader.applied_migrations
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) in applied:
            state = migration.mutate_state(state, preserve=False)
    return state


class _State(ProjectState):
    def add_model(self, model_state: ModelState) -> None:
        self._without_classes(super().add_model, model_state)
        if "apps" in self.__dict__:
            self.apps.render_multiple([model_state])

    def add_index(self, app_label: str, model_name: str, index: Any) -> None:
        self._without_classes(super().add_index, app_label, model_name, index)
        if "apps" in self.__dict__:
            options = self.apps.get_model(app_label, model_name)._meta
            options.indexes = [*options.indexes, index]

    def add_constraint(self, app_label: str, model_name: str, constraint: Any) -> None:
        self._without_classes(super().add_constraint, app_label, model_name, constraint)
        if "apps" in self.__dict__:
            options = self.apps.get_model(app_label, model_name)._meta
            options.constraints = [*options.constraints, constraint]

    def _without_classes(self, change: Callable[..., None], *arguments: Any) -> None:
        """Changes what is known of the models; the classes made of them (`apps`, made when first asked for) stay."""
        apps = self.__dict__.pop("apps", None)
        change(*arguments)
        if apps is not None:
            self.__dict__["apps"] = apps
