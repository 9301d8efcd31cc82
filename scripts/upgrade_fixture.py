"""Writes tests/upgrade/backups/VERSION: a backup of this version with work in progress, which later ones must upgrade.

Run it from a checkout of the release, once its migrations are final: `.venv/bin/python scripts/upgrade_fixture.py`. The
state is made by real processes and the test clock; tests/smoke/test_upgrade.py says what each alert of it must do.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tocsin  # noqa: E402
from tests.upgrade.work_in_progress import make  # noqa: E402


def main() -> None:
    target = ROOT / "tests" / "upgrade" / "backups" / tocsin.__version__
    with tempfile.TemporaryDirectory(prefix="tocsin-upgrade-", dir="/tmp") as folder:
        home = Path(folder)
        home.chmod(0o755)
        make(home, target)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
