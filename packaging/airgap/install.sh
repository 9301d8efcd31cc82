#!/bin/sh
# Installs Tocsin from this folder, without a network: ./install.sh [FOLDER], by default into /opt/tocsin.
# Run it again for an upgrade, then restart. Needs Python 3.12, 3.13 or 3.14; $PYTHON names another than the first found.
set -eu
target=${1:-/opt/tocsin}
here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) ||
    fail "The bundle is damaged. Copy it again; nothing was installed."

is_usable() {
    "$1" -c 'import sys, venv; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))' 2> /dev/null
}

python=
for name in ${PYTHON:-python3.13 python3.12 python3.14 python3}; do
    if is_usable "$name"; then
        python=$name
        break
    fi
done
[ -n "$python" ] || fail "No Python 3.12, 3.13 or 3.14 was found. Install one, or use the container image in this folder."

[ -x "$target/bin/python" ] && [ ! -e "$target/pyvenv.cfg" ] && fail "$target is not an installation of this script."
# Not with --clear: while Tocsin runs, its files stay.
"$python" -m venv --without-pip "$target" || fail "$target could not be made."
PYTHONPATH=$(echo "$here"/wheels/pip-*.whl) "$python" -m pip --python "$target/bin/python" install \
    --quiet --disable-pip-version-check --no-cache-dir --no-index --find-links "$here/wheels" \
    --require-hashes --requirement "$here/constraints.txt" ||
    fail "The packages could not be installed; the lines above say why."
"$target/bin/tocsin" --version > /dev/null || fail "Tocsin does not start; the lines above say why."

echo "$("$target/bin/tocsin" --version) is in $target. Next: $target/bin/tocsin serve, or for the machine:"
echo "    $target/bin/tocsin service install"
