"""`make setup`: brings everything that Tocsin is built from into this checkout. Quick when nothing changed.

In order: uv, a Python with the locked packages (.venv), the browser's parts (node_modules), the static files,
the translations.
Runs on any Python 3 and touches nothing outside the checkout and the package managers' own caches.
"""

import os
import sys

if sys.version_info < (3, 8):  # uv cannot be installed by these; any newer one on the machine can take over
    import interpreters

    for _python in interpreters.at_least((3, 8)):
        os.execv(_python, [_python, *sys.argv])
    sys.exit("setup: python3 is {}.{}; Python 3.8 or later is needed to begin.".format(*sys.version_info[:2]))

import bring


def main() -> None:
    try:
        uv = bring.uv()
        bring.environment(uv)
        bring.browser_parts(uv)
        bring.static_files()
        bring.translations()
    except bring.CannotGoOn as problem:
        sys.exit(f"setup: {problem}")


if __name__ == "__main__":
    main()
