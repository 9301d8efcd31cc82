"""The reference of reason codes is complete and up to date."""

from __future__ import annotations

import subprocess
import sys
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


#: Django and the node, as a worker without pages has them.
_WORKER = (
    "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'tocsin.settings'; django.setup(); import tocsin.node; "
    "from tocsin.core.reasons import REASON_TYPES; print(*REASON_TYPES)"
)


def test_worker_knows_the_texts_of_what_it_sends(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "TOCSIN_DATA_DIR": str(tmp_path)}
    known = subprocess.run(
        [sys.executable, "-c", _WORKER], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    script = _script()
    rooms = ("alerts", "escalation", "notify/enqueue", "notify/inbound", "notify/rules", "oncall/changes", "people")
    sent = {code for room in rooms for code, _templates in script.reason_types(script.PACKAGE / room)}
    # Readiness is shown, and what is wrong with a token is answered: neither is sent.
    answered = ("readiness.", "token.", "service_account.")
    unknown = {code for code in sent - set(known) if not code.startswith(answered)}
    assert unknown == set()
