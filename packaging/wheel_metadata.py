"""The wheel's addresses, for hatchling: those of addresses.toml that are known."""

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        known = tomllib.loads(Path(self.root, "packaging", "addresses.toml").read_text())
        author = {"name": "The Tocsin authors", "email": known["maintainer"]}
        metadata["authors"] = [{name: value for name, value in author.items() if value}]
        urls = {"Source": known["repository"], "Documentation": known["documentation"]}
        metadata["urls"] = {name: value for name, value in urls.items() if value}
