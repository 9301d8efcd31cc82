#!/bin/sh
# Compiles what `tocsin serve` imports, as root: the service may not write here and would compile it at each start.
# With --clean it only removes what was compiled before.
set -e
find /opt/tocsin/lib -type d -name __pycache__ -prune -exec rm -rf {} +
[ "$1" != --clean ] || exit 0
umask 022
cd /
exec env -i DJANGO_SETTINGS_MODULE=tocsin.settings TOCSIN_DATA_DIR=/nonexistent TOCSIN_SECRET_KEY=only-to-compile-the-modules-of-tocsin /opt/tocsin/bin/python - <<'CODE'
import django
from django.urls import get_resolver

django.setup()
import tocsin.cli.main, tocsin.node, tocsin.web_process

assert get_resolver().url_patterns
CODE
