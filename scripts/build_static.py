"""Copies what pages load from node_modules into the package: styles, scripts, the font, one icon sprite.

Files are taken as their makers built them. What is cut off: pointers to source maps, which are not shipped, and of
Tabler's styles those that no page can need, which are nine tenths of them.
Each text file, Tocsin's own too, gets its .br and .gz beside it, as WhiteNoise serves them.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import bring
import brotli

ROOT = Path(__file__).resolve().parent.parent
MODULES = ROOT / "node_modules"
STATIC = ROOT / "src" / "tocsin" / "web" / "static"
VENDOR = STATIC / "vendor"
ICONS = ROOT / "scripts" / "icons.txt"
KINDS = ROOT / "src" / "tocsin" / "catalogue" / "kinds"

STYLES = MODULES / "@tabler" / "core" / "dist" / "css" / "tabler.min.css"
# From node_modules → below static/vendor.
FILES = {
    "htmx.org/dist/htmx.min.js": "htmx/htmx.min.js",
    "@fontsource-variable/inter/wght.css": "inter/inter.css",
}
# The font's subsets: a page loads only those whose characters it shows.
FONTS = "@fontsource-variable/inter/files/inter-*-wght-normal.woff2"
TEXTS = {".css", ".js", ".svg", ".webmanifest"}

# /*# sourceMappingURL=… */ and //# sourceMappingURL=…
_SOURCE_MAP = re.compile(rb"\s*(/\*# sourceMappingURL=[^*]*\*/|//# sourceMappingURL=\S*)\s*$")
_DRAWING = re.compile(r"<svg(?P<attributes>[^>]*)>(?P<shapes>.*)</svg>", re.DOTALL)
_ATTRIBUTE = re.compile(r'([\w:-]+)="([^"]*)"')
# Attributes of an icon that its symbol keeps; size, class and namespace belong to where it is used.
_KEPT = ("viewBox", "fill", "stroke", "stroke-width", "stroke-linecap", "stroke-linejoin")


def main() -> None:
    building = VENDOR.with_name("vendor.new")
    shutil.rmtree(building, ignore_errors=True)
    for source, target in FILES.items():
        _write(building / target, _SOURCE_MAP.sub(b"\n", (MODULES / source).read_bytes()))
    _write(building / "tabler" / STYLES.name, needed_styles(STYLES, _what_names_styles()).encode())
    for font in sorted(MODULES.glob(FONTS)):
        _write(building / "inter" / "files" / font.name, font.read_bytes())
    _write(building / "icons.svg", sprite(ICONS.read_text(), MODULES / "@tabler" / "icons" / "icons").encode())
    _write(building / "logos.svg", logos(KINDS, MODULES / "simple-icons" / "icons").encode())
    _write(building / "LICENSES.txt", licenses().encode())
    shutil.rmtree(VENDOR, ignore_errors=True)
    building.rename(VENDOR)
    compress(STATIC)


def needed_styles(styles: Path, content: Sequence[str]) -> str:
    """The rules whose names stand in a file that fits a pattern of `content`."""
    _npm, path = bring.npm(bring.uv())
    query = json.dumps({"css": str(styles), "content": list(content)})
    done = subprocess.run(
        ["node", ROOT / "scripts" / "needed_styles.mjs"],
        input=query,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": path},
        check=True,
    )
    return done.stdout


def _what_names_styles() -> list[str]:
    """Templates, Tocsin's and its libraries', and code that writes class names."""
    libraries = [
        f"{Path(module_spec.origin).parent}/**/templates/**/*.html"
        for name in ("allauth", "django")
        if (module_spec := find_spec(name)) is not None and module_spec.origin
    ]
    package = ROOT / "src" / "tocsin"
    scripts = [f"{STATIC}/tocsin/*.js", str(MODULES / "htmx.org" / "dist" / "htmx.min.js")]
    return [f"{package}/**/*.html", f"{package}/**/*.py", *scripts, *libraries]


def sprite(listing: str, folder: Path) -> str:
    """One SVG with a <symbol> for each icon of the listing, with the icon's name as id (`filled/bell` → `bell-filled`).

    Exits naming the line if an icon does not exist.
    """
    symbols = {}
    for number, line in enumerate(listing.splitlines(), start=1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        style, _, plain = name.rpartition("/")
        file = folder / (style or "outline") / f"{plain}.svg"
        if not file.is_file():
            sys.exit(f"{ICONS.name} line {number}: Tabler has no icon “{name}”.")
        symbols[f"{plain}-{style}" if style else plain] = file.read_text()
    return _sprite(symbols)


def logos(kinds: Path, folder: Path) -> str:
    """One SVG with the mark of each integration type that names one (`logo`), in the colour of the text around it.

    Exits naming the type if its mark does not exist.
    """
    symbols = {}
    for manifest in sorted(kinds.glob("*/integration.toml")):
        if name := tomllib.loads(manifest.read_text("utf-8")).get("logo"):
            file = folder / f"{name}.svg"
            if not file.is_file():
                sys.exit(f"{manifest.parent.name}: Simple Icons has no mark “{name}”.")
            # The title would be read aloud beside the name.
            drawing = re.sub("<title>.*?</title>", "", file.read_text())
            symbols[name] = drawing.replace("<svg ", '<svg fill="currentColor" stroke="none" ', 1)
    return _sprite(symbols)


def _sprite(drawings: Mapping[str, str]) -> str:
    symbols = [_symbol(identity, svg) for identity, svg in drawings.items()]
    return '<svg xmlns="http://www.w3.org/2000/svg">\n' + "\n".join(symbols) + "\n</svg>\n"


def compress(folder: Path) -> None:
    """Makes each text file's compressed forms anew; those of files that are gone go too."""
    for file in [*folder.rglob("*.br"), *folder.rglob("*.gz")]:
        file.unlink()
    for file in [path for path in folder.rglob("*") if path.suffix in TEXTS]:
        content = file.read_bytes()
        file.with_name(file.name + ".br").write_bytes(brotli.compress(content))
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(content, 9, mtime=0))


def licenses() -> str:
    """What is in the folder, by whom, under which terms."""
    parts = []
    for package in json.loads((ROOT / "package.json").read_text())["dependencies"]:
        about = json.loads((MODULES / package / "package.json").read_text())
        text = next((MODULES / package).glob("LICENSE*"), MODULES / package / "LICENSE")
        terms = text.read_text() if text.is_file() else ""
        parts.append(f"{package} {about['version']}: {about.get('license', 'see below')}\n\n{terms}".rstrip() + "\n")
    return f"\n{'-' * 80}\n\n".join(parts)


def _symbol(identity: str, svg: str) -> str:
    drawing = _DRAWING.search(svg)
    if drawing is None:
        sys.exit(f"{identity}: not an SVG drawing")
    attributes = dict(_ATTRIBUTE.findall(drawing["attributes"]))
    value = " ".join(f'{key}="{attributes[key]}"' for key in _KEPT if key in attributes)
    # Each icon begins with an invisible square that only design programs need.
    shapes = re.sub(r'<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>', "", drawing["shapes"])
    return f'<symbol id="{identity}" {value}>{re.sub(r"\s*\n\s*", "", shapes).strip()}</symbol>'


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


if __name__ == "__main__":
    main()
