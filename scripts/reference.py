"""`make reference`: writes docs/reference's generated pages, packaging/monitoring, and in documents what depends on
packaging/addresses.toml. A test checks them."""

import addresses
import cli_reference
import corpus_reference
import doctor_reference
import metrics_reference
import monitoring
import provider_list
import reason_codes
import ticket_systems
import variables_reference
import yaml_reference

PAGES = (
    addresses,
    cli_reference,
    corpus_reference,
    doctor_reference,
    metrics_reference,
    monitoring,
    provider_list,
    reason_codes,
    ticket_systems,
    variables_reference,
    yaml_reference,
)


def main() -> None:
    for page in PAGES:
        page.main()


if __name__ == "__main__":
    main()
