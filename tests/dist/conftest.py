"""The scripts that build artefacts, as tests import them."""

from __future__ import annotations

import sys
from pathlib import Path

# The scripts import each other by their plain names, as `python scripts/dist.py` does.
sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
