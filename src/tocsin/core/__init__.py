"""What everything stands on: configuration, clock, ids, secrets, database. Imports nothing above it."""

import sys

# httpx's own command line, which nobody here calls, would bring rich and pygments into every process: a twentieth of
# its start. Where it cannot be loaded, httpx does without.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
