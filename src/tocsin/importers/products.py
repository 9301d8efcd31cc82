"""The products that can be imported: name, API address, client and converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from tocsin.importers.alertops import client as alertops_fetching
from tocsin.importers.alertops import converter as alertops
from tocsin.importers.api_reader import ApiReader, ProgressCallback
from tocsin.importers.config_builder import ExistingUser
from tocsin.importers.grafana_oncall import client as oncall_fetching
from tocsin.importers.grafana_oncall import converter as oncall
from tocsin.importers.opsgenie import client as opsgenie_fetching
from tocsin.importers.opsgenie import converter as opsgenie
from tocsin.importers.opsgenie import export as opsgenie_export
from tocsin.importers.pagerduty import client as pagerduty_fetching
from tocsin.importers.pagerduty import converter as pagerduty
from tocsin.importers.report import ConvertedConfig

#: All documents of an account, by kind.
type ProductDocuments = Mapping[str, list[dict[str, Any]]]


class Converter(Protocol):
    """Converts documents to a configuration and a report."""

    def __call__(
        self,
        documents: ProductDocuments,
        now: datetime,
        known: Mapping[str, ExistingUser] | None = None,
        *,
        with_keys: bool = False,
    ) -> ConvertedConfig: ...


@dataclass(frozen=True, slots=True)
class Product:
    """One product."""

    name: str
    title: str
    #: The usual URL of its API; "": each installation has its own.
    base: str
    #: The environment variable with the key for the command line.
    variable: str
    #: Where the key is created, in one line.
    key_place: str
    reader: Callable[[str, str, ProgressCallback], ApiReader]
    fetch: Callable[[ApiReader, datetime], ProductDocuments]
    translate: Converter
    #: The reader of an export; None: there is none.
    read_export: Callable[[bytes], ProductDocuments] | None = None
    export_place: str = ""


PRODUCTS: Final[Mapping[str, Product]] = {
    product.name: product
    for product in (
        Product(
            name="opsgenie",
            title="Opsgenie",
            base=opsgenie_fetching.BASE,
            variable="OPSGENIE_API_KEY",
            key_place="Settings → API key management, with Read and Configuration access",
            reader=opsgenie_fetching.reader,
            fetch=opsgenie_fetching.fetch,
            translate=opsgenie.translate,
            read_export=opsgenie_export.read,
            export_place="a ZIP of the folder OpsGenieBackups that its configuration backup tool writes, or JSON",
        ),
        Product(
            name="pagerduty",
            title="PagerDuty",
            base=pagerduty_fetching.BASE,
            variable="PAGERDUTY_API_KEY",
            key_place="Integrations → API Access Keys, read-only",
            reader=pagerduty_fetching.reader,
            fetch=pagerduty_fetching.fetch,
            translate=pagerduty.translate,
        ),
        Product(
            name="grafana-oncall",
            title="Grafana OnCall",
            base="",
            variable="GRAFANA_ONCALL_API_KEY",
            key_place="Settings → API tokens",
            reader=oncall_fetching.reader,
            fetch=oncall_fetching.fetch,
            translate=oncall.translate,
        ),
        Product(
            name="alertops",
            title="AlertOps",
            base=alertops_fetching.BASE,
            variable="ALERTOPS_API_KEY",
            key_place="Administration → Subscription Settings, or your profile",
            reader=alertops_fetching.reader,
            fetch=alertops_fetching.fetch,
            translate=alertops.translate,
        ),
    )
}


def fetch(product: Product, key: str, base: str, now: datetime, progress: ProgressCallback) -> ProductDocuments:
    """Reads all documents of an account. Raises Permanent or Temporary with a message for users."""
    reader = product.reader(key, base, progress)
    try:
        return product.fetch(reader, now)
    finally:
        reader.close()
