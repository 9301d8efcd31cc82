"""The reference of reason codes is complete and up to date."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tocsin.core.reasons import REASON_TYPES

ROOT = Path(__file__).resolve().parents[2]


def _script() -> ModuleType:
    spec = spec_from_file_location("reason_codes", ROOT / "scripts" / "reason_codes.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_reference_of_reason_codes_is_up_to_date() -> None:
    script = _script()
    assert script.DOCUMENT.read_text(encoding="utf-8") == script.document(), "run `make reference`"


def test_reference_has_every_defined_code_with_its_templates() -> None:
    listed = dict(_script().reason_types())
    defined = {code: kind for code, kind in REASON_TYPES.items() if not code.startswith("testing.")}
    assert defined.keys() <= listed.keys()
    for code, kind in defined.items():
        assert listed[code] == [kind.template, *([kind.plural] if kind.plural else [])]
