"""`make docs`: builds the documentation as a site into build/site. Fails for a broken link, and for anything that pages
would load from elsewhere. Links to other sites are not followed."""

import os
import re
import subprocess
import sys

import bring

SITE = bring.ROOT / "build" / "site"

#: What a browser loads by itself: scripts, styles, images, frames.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"' >]+)"
    r"|<link\b[^>]*\brel=[\"']?(?:stylesheet|preconnect|icon|preload)\b[^>]*\bhref=[\"']?((?:https?:)?//[^\"' >]+)"
)


def main() -> None:
    try:
        folder = bring.documentation(bring.uv())
    except bring.CannotGoOn as problem:
        sys.exit(f"docs: {problem}")
    command = [bring.PYTHON, "-m", "zensical", "build", "--clean", "--strict"]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    if subprocess.run(command, cwd=bring.ROOT, env=environ).returncode:
        sys.exit("docs: the lines above say what is broken")
    pages = sorted(SITE.rglob("*.html"))
    loaded = [
        f"{page.relative_to(SITE)}: {''.join(found)}" for page in pages for found in _LOADED.findall(page.read_text())
    ]
    if loaded:
        sys.exit("docs: pages load this from elsewhere:\n" + "\n".join(loaded))
    print(f"{len(pages)} pages in {SITE.relative_to(bring.ROOT)}; begin with index.html")


if __name__ == "__main__":
    main()
