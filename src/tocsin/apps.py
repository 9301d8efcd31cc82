"""The Django app that connects the rooms: it installs the wiring after all models are loaded."""

from __future__ import annotations

from django.apps import AppConfig


class TocsinConfig(AppConfig):
    name = "tocsin"
    label = "tocsin"

    def ready(self) -> None:
        from tocsin import wiring

        wiring.install()
