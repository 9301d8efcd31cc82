"""The YAML reference, and the list of channels and providers, are complete and up to date."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tocsin.configure.config_files import TOP_KEYS

ROOT = Path(__file__).resolve().parents[2]


def _script(name: str = "yaml_reference") -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["yaml_reference", "provider_list"])
def test_generated_page_is_up_to_date(name: str) -> None:
    script = _script(name)
    assert script.DOCUMENT.read_text(encoding="utf-8") == script.document(), "run `make reference`"


def test_yaml_reference_has_a_section_for_each_top_key() -> None:
    text = _script().document()
    assert [key for key in TOP_KEYS if f"\n## {key}\n" not in text] == []
