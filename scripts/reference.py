"""`make reference`: writes the generated pages of docs/reference. A test says when one is out of date."""

import cli_reference
import corpus_reference
import doctor_reference
import metrics_reference
import reason_codes
import variables_reference
import yaml_reference

PAGES = (
    cli_reference,
    corpus_reference,
    doctor_reference,
    metrics_reference,
    reason_codes,
    variables_reference,
    yaml_reference,
)


def main() -> None:
    for page in PAGES:
        page.main()


if __name__ == "__main__":
    main()
