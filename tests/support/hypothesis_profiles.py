"""How many examples Hypothesis tries: few in `make test`, many in `make test-all`.

`--hypothesis-profile` chooses the profile. Without it Hypothesis's own default applies, of 100 examples.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

#: Examples of a property that names no number of its own.
_EXAMPLES = {"fast": 30, "full": 1_000}
_DEFAULT = 100


def register_profiles() -> None:
    """Makes the profiles known. A busy machine is no failure, so no profile has a deadline, or
    minds slow inputs."""
    for name, count in _EXAMPLES.items():
        settings.register_profile(name, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def examples(count: int) -> settings:
    """A decorator: tries `count` examples, or in proportion fewer or more where a profile says so."""
    return settings(max_examples=max(1, count * settings().max_examples // _DEFAULT), deadline=None)
