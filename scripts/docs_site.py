"""`make docs`: builds the documentation as a site into build/site. Fails for a broken link, and for anything that pages
would load from elsewhere. Links to other sites are not followed."""

import os
import re
import subprocess
import sys

import bring
from builders import release

CONFIGURATION = bring.ROOT / "zensical.toml"
SITE = bring.ROOT / "build" / "site"
#: The menu has every page of this folder.
PROVIDERS = "how-to/providers"

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
    # Beside the other one, since its paths are relative. The version is in the header of each page.
    configuration = bring.ROOT / ".zensical-with-version.toml"
    text = CONFIGURATION.read_text()
    named = text.replace('site_name = "Tocsin"', f'site_name = "Tocsin {release.version()}"')
    assert named != text
    guides = sorted(page.name for page in (bring.ROOT / "docs" / PROVIDERS).glob("*.md"))
    named = named.replace(f'"{PROVIDERS}/README.md"', ", ".join(f'"{PROVIDERS}/{name}"' for name in guides))
    command = [bring.PYTHON, "-m", "zensical", "build", "--clean", "--strict", "--config-file", configuration]
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    try:
        configuration.write_text(named)
        status = subprocess.run(command, cwd=bring.ROOT, env=environ).returncode
    finally:
        configuration.unlink()
    if status:
        sys.exit("docs: the lines above say what is broken")
    # Pages opened from disk may load a script, and no other file.
    (SITE / "search.js").write_text(f"var __index = {(SITE / 'search.json').read_text()};\n")
    pages = sorted(SITE.rglob("*.html"))
    loaded = [
        f"{page.relative_to(SITE)}: {''.join(found)}" for page in pages for found in _LOADED.findall(page.read_text())
    ]
    if loaded:
        sys.exit("docs: pages load this from elsewhere:\n" + "\n".join(loaded))
    print(f"{len(pages)} pages: {(SITE / 'index.html').as_uri()}")


if __name__ == "__main__":
    main()
