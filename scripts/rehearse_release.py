"""Rehearses a release: runs the steps of .github/workflows/release.yml, as they stand there, in a container.

`scripts/rehearse_release.py FOLDER` leaves in FOLDER what would be in the draft; `--only "wheel chart"` builds less. As
root; the container has this machine's network and registries. Addresses, date and key are made up: what is built of
them is no release.
"""

import argparse
import datetime
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import addresses
import bring
from builders import debian_base, release
from ruamel.yaml import YAML

WORKFLOW = bring.ROOT / ".github" / "workflows" / "release.yml"

_PACKAGES = ("apt", "ca-certificates", "git", "make", "minisign", "passwd", "python3-venv")

#: The variables by which this machine reaches its registries.
_REGISTRIES = re.compile(r"(?i)(?:pip|uv|npm_config)_|\w*(?:cert|ca_bundle|ca_certs|proxy)\w*$")

#: In the place of GitHub's program: the draft is a folder.
_GH = """#!/bin/sh
set -eu
command=$2 tag=$3
shift 3
case $command in
    create)
        mkdir /draft
        while [ "$1" != --notes-file ]; do shift; done
        cp "$2" /draft.md ;;
    upload)
        [ "$1" = --repo ] && shift 2
        for file in "$@"; do
            [ ! -e "/draft/$(basename "$file")" ] || { echo "$file is there already" >&2; exit 1; }
            cp "$file" /draft
        done ;;
    download)
        while [ "$1" != --dir ]; do shift; done
        mkdir -p "$2"
        cp /draft/* "$2" ;;
esac
"""

_ENTER = """
set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
exec chroot "$1" bash --noprofile --norc -e -o pipefail -c "$2"
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description="Runs the steps of the release workflow in a container.")
    arguments.add_argument("folder", type=Path, help="where the draft is left")
    arguments.add_argument("--only", default="", help="artefacts, instead of those that the workflow names")
    given = arguments.parse_args()
    if given.folder.exists():
        sys.exit(f"rehearsal: {given.folder} is there already")
    with tempfile.TemporaryDirectory(prefix="tocsin-rehearsal-", dir="/var/tmp") as folder:
        root = Path(folder) / "root"
        root.mkdir()
        archive = debian_base.make("rehearsal", _PACKAGES, with_apt=True)
        subprocess.run(["tar", "--extract", f"--file={archive}", f"--directory={root}"], check=True)
        _prepare(root)
        commit = _publishable(root / "tocsin")
        for name, job in jobs(WORKFLOW.read_text()):
            for values in job.get("strategy", {}).get("matrix", {}).get("include", [{}]):
                if _is_of_this_machine(values):
                    _run_job(root, name, job, {**values, **({"only": given.only} if given.only else {})}, commit)
        shutil.copytree(root / "draft", given.folder)
        shutil.copy(root / "draft.md", given.folder / "notes.md")
    print(f"rehearsal: {len(list(given.folder.iterdir()))} files in {given.folder}")


def jobs(workflow: str) -> list[tuple[str, dict]]:
    """The jobs of a workflow, each after those that it needs."""
    left = dict(YAML(typ="safe").load(workflow)["jobs"])
    found: list[tuple[str, dict]] = []
    while left:
        name = next(name for name in left if left[name].get("needs", "") in ("", *(done for done, _ in found)))
        found.append((name, left.pop(name)))
    return found


def expand(text: str, values: dict[str, str]) -> str:
    """The text with its expressions, such as `${{ matrix.only }}`, replaced. An unknown one is an error."""
    return re.sub(r"\$\{\{ ([a-zA-Z_.]+) \}\}", lambda match: values[match[1]], text)


def _is_of_this_machine(values: dict[str, str]) -> bool:
    return values.get("runner", "").endswith("-arm") is (platform.machine() == "aarch64") or not values


def _prepare(root: Path) -> None:
    """Gives the container this machine's way to its registries, and the programs that a runner has."""
    for name in ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt", "root/.npmrc"):
        if Path("/", name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).unlink(missing_ok=True)
            shutil.copy(Path("/", name), root / name)
    for name in ("etc/apt", "root/.config"):
        if Path("/", name).is_dir():
            shutil.rmtree(root / name, ignore_errors=True)
            shutil.copytree(
                Path("/", name), root / name, ignore=shutil.ignore_patterns("older-defaults-*", "installed-*")
            )
    for name, value in os.environ.items():
        if _REGISTRIES.match(name) and value.startswith("/etc/") and Path(value).is_file():
            (root / value[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(value, root / value[1:])
    program = root / "usr" / "local" / "bin" / "gh"
    program.write_text(_GH)
    program.chmod(0o755)
    # The steps are root's here already, and the way to the registries is in variables.
    program = root / "usr" / "local" / "bin" / "sudo"
    program.write_text('#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nexec "$@"\n')
    program.chmod(0o755)
    key = ["minisign", "-G", "-W", "-f", "-p", root / "minisign.pub", "-s", root / "minisign.secret"]
    release.run(key, "No key could be made")


def _publishable(repository: Path) -> str:
    """A clone of this tree with addresses, a date and a commit of its own. Returns the commit."""
    git = ["git", "-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@tocsin.dev"]
    subprocess.run(["git", "clone", "--quiet", bring.ROOT, repository], check=True)
    known = {name: f"https://{name}.tocsin.dev" for name in ("repository", "documentation")}
    known |= {"image": "images.tocsin.dev/tocsin", "package": "tocsin", "maintainer": "hello@tocsin.dev"}
    known["public_key"] = (repository.parent / "minisign.pub").read_text().splitlines()[1]
    file = repository / addresses.FILE.relative_to(bring.ROOT)
    file.write_text("".join(f'{name} = "{value}"\n' for name, value in known.items()))
    changes = repository / "CHANGELOG.md"
    today = datetime.datetime.now(datetime.UTC).date()
    changes.write_text(changes.read_text().replace("- unreleased", f"- {today}", 1))
    subprocess.run([*git, "-C", repository, "commit", "--quiet", "--all", "--message=A rehearsal"], check=True)
    command = ["git", "-C", repository, "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _run_job(root: Path, name: str, job: dict, matrix: dict[str, str], commit: str) -> None:
    values = {f"matrix.{key}": value for key, value in matrix.items()}
    values |= {"github.token": "none", "secrets.MINISIGN_PASSPHRASE": ""}
    values["secrets.MINISIGN_KEY"] = (root / "minisign.secret").read_text().strip()
    work = root / "work" / name
    work.mkdir(parents=True)
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "CI": "true",
        "GITHUB_SERVER_URL": "file://",
        "GITHUB_REPOSITORY": "tocsin",
        "GITHUB_SHA": commit,
        "GITHUB_REF_NAME": f"v{release.version()}",
        **{key: value for key, value in os.environ.items() if _REGISTRIES.match(key)},
        **{key: expand(str(value), values) for key, value in job["env"].items()},
    }
    for step in job["steps"]:
        print(f"rehearsal: {name}: {step['name']}", flush=True)
        script = f"cd /work/{name}\n{expand(step['run'], values)}"
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        done = subprocess.run([*namespaces, "sh", "-c", _ENTER, "sh", root, script], env=variables)
        if done.returncode:
            sys.exit(f"rehearsal: the step {step['name']} of {name} ended with {done.returncode}")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
