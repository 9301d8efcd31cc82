"""`make bench`: runs the scripts of benchmarks/ one after the other; with names, only those.

A benchmark is a script there with a `main`; modules that only serve them have none.
"""

import subprocess
import sys
from pathlib import Path

import bring
import debian

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    results = {
        script.stem: script
        for script in sorted((ROOT / "benchmarks").glob("*.py"))
        if "def main(" in script.read_text()
    }
    names = sys.argv[1:] or list(results)
    unknown = [name for name in names if name not in results]
    if unknown or not results:
        sys.exit(f"bench: no benchmark {', '.join(unknown)}; there are: {', '.join(results) or 'none'}")
    debian.bring()
    if "pages" in names:
        bring.browser_parts(bring.uv(), with_optional=True)
    failed = []
    for name in names:
        print(f"\n── {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT).returncode != 0:
            failed.append(name)
    print(f"\nbenchmarks: {len(names) - len(failed)} passed, {len(failed)} failed {' '.join(failed)}".rstrip())
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
