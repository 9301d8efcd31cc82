"""The limit of open files: raised at the start, and judged by the doctor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tocsin.core import descriptors
from tocsin.operate.checks import machine

_PROGRAM = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))
from tocsin.core import descriptors
print(descriptors.attainable())
descriptors.raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], descriptors.are_scarce(900))
"""


@pytest.mark.parametrize(("hard", "said"), [(1_024, "1024\n1024 True\n"), (3_000, "3000\n3000 False\n")])
def test_the_soft_limit_is_raised_to_the_hard_limit(hard: int, said: str) -> None:
    program = _PROGRAM.replace("{hard}", str(hard))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == said


def test_the_doctor_names_the_remedy_for_too_low_a_limit() -> None:
    (finding,) = machine.open_files(1_024)
    assert finding.is_problem
    assert "1024 files" in finding.detail
    assert "LimitNOFILE=65536" in finding.remedy
    assert not list(machine.open_files(descriptors.NEEDED))
