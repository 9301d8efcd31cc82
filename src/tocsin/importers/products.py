"""The products that can be imported: name, API address, client and converter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from tocsin.core.reasons import translatable
from tocsin.importers.alertops import client as alertops_client
from tocsin.importers.alertops import converter as alertops
from tocsin.importers.api_reader import ApiReader, ProgressCallback
from tocsin.importers.config_builder import ExistingUser
from tocsin.importers.grafana_oncall import client as oncall_client
from tocsin.importers.grafana_oncall import converter as oncall
from tocsin.importers.opsgenie import client as opsgenie_client
from tocsin.importers.opsgenie import converter as opsgenie
from tocsin.importers.opsgenie import export as opsgenie_export
from tocsin.importers.pagerduty import client as pagerduty_client
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
        existing_users: Mapping[str, ExistingUser] | None = None,
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
    key_variable: str
    #: Where the key is created, in one line.
    key_location: str
    reader: Callable[[str, str, ProgressCallback], ApiReader]
    fetch: Callable[[ApiReader, datetime], ProductDocuments]
    convert: Converter
    #: The reader of an export; None: there is none.
    read_export: Callable[[bytes], ProductDocuments] | None = None


PRODUCTS: Final[Mapping[str, Product]] = {
    product.name: product
    for product in (
        Product(
            name="opsgenie",
            title="Opsgenie",
            base=opsgenie_client.BASE,
            key_variable="OPSGENIE_API_KEY",
            key_location=translatable("Settings → API key management, with Read and Configuration access"),
            reader=opsgenie_client.reader,
            fetch=opsgenie_client.fetch,
            convert=opsgenie.convert,
            read_export=opsgenie_export.read,
        ),
        Product(
            name="pagerduty",
            title="PagerDuty",
            base=pagerduty_client.BASE,
            key_variable="PAGERDUTY_API_KEY",
            key_location=translatable("Integrations → API Access Keys, read-only"),
            reader=pagerduty_client.reader,
            fetch=pagerduty_client.fetch,
            convert=pagerduty.convert,
        ),
        Product(
            name="grafana-oncall",
            title="Grafana OnCall",
            base="",
            key_variable="GRAFANA_ONCALL_API_KEY",
            key_location=translatable("Settings → API tokens"),
            reader=oncall_client.reader,
            fetch=oncall_client.fetch,
            convert=oncall.convert,
        ),
        Product(
            name="alertops",
            title="AlertOps",
            base=alertops_client.BASE,
            key_variable="ALERTOPS_API_KEY",
            key_location=translatable("Administration → Subscription Settings, or your profile"),
            reader=alertops_client.reader,
            fetch=alertops_client.fetch,
            convert=alertops.convert,
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
