"""Shared infrastructure: configuration, clock, ids, secrets, networking and the database. Imports no other room."""

import sys

# httpx's command line is never used here and would load rich and pygments into every process, a twentieth of its
# start-up time. httpx works without the module when it cannot be imported.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
