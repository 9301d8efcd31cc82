"""The addresses of packaging/addresses.toml: what is missing for a publication, and the texts that depend on them.

The blocks of documents between `<!-- addresses: NAME -->` and `<!-- end -->` are written here. While an address is
empty, they say how to do it with a folder that holds the files of a release, as `make dist` writes it.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "packaging" / "addresses.toml"

NAMES = ("repository", "documentation", "image", "package", "maintainer", "public_key")

#: Names of RFC 2606 and words that stand for something else.
_PLACEHOLDER = re.compile(r"example\.|\.(?:example|invalid|test)\b|localhost|<|>|\bTODO\b|…|\.\.\.", re.IGNORECASE)

#: How those look that have a form of their own.
_FORMS = {"repository": r"https://\S+[^/]", "documentation": r"https://\S+[^/]", "maintainer": r"[^@\s]+@[^@\s]+"}

DOCUMENTS = (
    "README.md",
    "SECURITY.md",
    "docs/get-started/first-page.md",
    "docs/get-started/install.md",
    "docs/get-started/install/pip.md",
    "docs/how-to/upgrade.md",
)

_BLOCK = re.compile(r"(<!-- addresses: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(file: Path = FILE) -> dict[str, str]:
    """The addresses by name; an empty one is not decided yet."""
    given = tomllib.loads(file.read_text())
    if set(given) != set(NAMES):
        raise ValueError(f"{file.name} must have {', '.join(NAMES)}")
    return {name: str(given[name]).strip() for name in NAMES}


def missing(addresses: Mapping[str, str]) -> list[str]:
    """The names of those that are empty or stand for something else. A publication needs them all."""
    return [
        name
        for name in NAMES
        if _PLACEHOLDER.search(addresses[name]) or not re.fullmatch(_FORMS.get(name, ".+"), addresses[name])
    ]


def main() -> None:
    addresses = read()
    for name in DOCUMENTS:
        path = ROOT / name
        path.write_text(written(path.read_text(), addresses))


def written(document: str, addresses: Mapping[str, str]) -> str:
    """The document with its blocks as these addresses make them."""
    texts = blocks(addresses)
    return _BLOCK.sub(lambda match: f"{match[1]}{texts[match[2]]}\n{match[3]}", document)


def blocks(addresses: Mapping[str, str]) -> dict[str, str]:
    repository, maintainer, key = addresses["repository"], addresses["maintainer"], addresses["public_key"]
    package = addresses["package"]
    if package:
        here = ""
        install, pinned, old = package, package, f"{package}==OLD_VERSION"
        folder, upgrade = "", f"uv tool upgrade {package}"
    else:
        here = (
            "Tocsin is in no package index yet: these commands begin in a folder with the files of a release, which\n"
            "`make dist` in a checkout writes into `dist`. What Tocsin needs comes from the Python package index.\n\n"
        )
        install = "./tocsin-*.whl"
        pinned, old = "./tocsin-VERSION-py3-none-any.whl", "./tocsin-OLD_VERSION-py3-none-any.whl"
        folder, upgrade = "--find-links . ", "uv tool install ./tocsin-NEW_VERSION-py3-none-any.whl"
    start = _shell(f"uv tool install {install}      # or: pipx install {install}", "tocsin serve")
    return {
        "install": here + start,
        "pinned": _shell(f"uv tool install --constraints tocsin-VERSION-constraints.txt {pinned}"),
        "hashes": _shell(
            "sudo python3 -m venv /opt/tocsin",
            f"sudo /opt/tocsin/bin/pip install --require-hashes {folder}-r tocsin-VERSION-constraints.txt",
            "/opt/tocsin/bin/tocsin serve",
        ),
        "upgrade": _shell(
            'sudo "$(command -v tocsin)" backup /backup/before-upgrade',
            f"{upgrade}      # or, with constraints or checked hashes, as it was installed",
            "sudo systemctl restart tocsin",
        ),
        "downgrade": _shell(
            "sudo systemctl stop tocsin",
            f"uv tool install {old}",
            "sudo mv /var/lib/tocsin /var/lib/tocsin.newer",
            'sudo "$(command -v tocsin)" restore /backup/before-upgrade',
            "sudo systemctl start tocsin",
        ),
        "go-back": _shell(
            "sudo systemctl stop tocsin                        # on every node",
            f"uv tool install {old}",
            'sudo "$(command -v tocsin)" restore --force /var/lib/tocsin/backups/before-upgrade-2026-11-29T021500Z',
            "sudo systemctl start tocsin",
        ),
        "releases": (
            f"The files of each release are at [{repository}/releases]({repository}/releases)"
            + (f", the image is `{addresses['image']}`" if addresses["image"] else "")
            + "."
            if repository
            else "Tocsin is not published yet: the files of a release are those that `make dist` in a checkout\n"
            "writes into `dist`. Every page below begins with such a folder, and needs no registry of Tocsin's."
        ),
        "signature": (
            "The files of a release are listed in `SHA256SUMS`, which is signed with minisign:\n\n"
            + _shell(f"minisign -Vm SHA256SUMS -P {key}", "sha256sum --check --ignore-missing SHA256SUMS")
            if key
            else "The files of a release are listed in `SHA256SUMS`:\n\n"
            + _shell("sha256sum --check --ignore-missing SHA256SUMS")
            + "\n\nSomeone who built it with a key of minisign has signed that file (`SHA256SUMS.minisig`);\n"
            "the publisher's public key is named here once there is one."
        ),
        "report": (
            f'Please report it privately, through "Report a vulnerability" at {repository}/security,\n'
            f"or by email to {maintainer}."
            if repository and maintainer
            else "Please report it privately. Tocsin is not published yet, and so has no public address for\n"
            "that: tell the person who gave you this copy."
        ),
    }


def _shell(*lines: str) -> str:
    return "\n".join(("```sh", *lines, "```"))


if __name__ == "__main__":
    main()
