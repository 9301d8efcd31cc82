"""What tests need from the distribution: Chromium, PostgreSQL's server, PgBouncer, rsyslog, wrk, Alertmanager,
nss_wrapper, Kustomize; for the proof and the long tests also promtool, haproxy, Patroni, etcd, libfaketime; for the
long tests LemonLDAP::NG and OpenLDAP.

Brings them where apt and the rights are. Nothing here fails: whoever needs a missing thing says so.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

MIN_POSTGRES_MAJOR = 15
#: Packages that not every release has, each with a program of its name. Without the first the tests use the whole
#: browser, without the second they do not build the manifests for Kubernetes.
IF_OFFERED = ("chromium-headless-shell", "kustomize")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: Package by a file of it below /usr.
PROGRAMS = {
    "sbin/pgbouncer": "pgbouncer",
    "sbin/rsyslogd": "rsyslog",
    "bin/wrk": "wrk",
    "bin/prometheus-alertmanager": "prometheus-alertmanager",
    "lib/*/libnss_wrapper.so": "libnss-wrapper",
}
#: For the proof and the long tests only.
PROOF = {
    "bin/promtool": "promtool",
    "sbin/haproxy": "haproxy",
    "bin/patroni": "patroni",
    "bin/etcd": "etcd-server",
    "lib/python3/dist-packages/etcd": "python3-etcd",
    "lib/*/faketime/libfaketime.so.1": "libfaketime",
}
#: For `make dist`, and for the tests of what it built.
DIST = {
    "lib/podman/aardvark-dns": "aardvark-dns",
    "bin/buildah": "buildah",
    "bin/catatonit": "catatonit",
    # Other distributions do not have the key of Debian's packages.
    "share/keyrings/debian-archive-keyring.*": "debian-archive-keyring",
    "bin/minisign": "minisign",
    "bin/mmdebstrap": "mmdebstrap",
    "bin/podman": "podman",
    "sbin/nft": "nftables",
    "sbin/runc": "runc",
}
#: For the long tests: LemonLDAP::NG as an identity provider, with what its package only recommends.
LONG = {
    "sbin/slapd": "slapd",
    "sbin/llng-fastcgi-server": "lemonldap-ng-fastcgi-server",
    "share/perl5/Lemonldap/NG/Portal.pm": "liblemonldap-ng-portal-perl",
    "lib/*/perl5/*/Lasso.pm": "liblasso-perl",
    "lib/*/perl5/*/XML/LibXML.pm": "libxml-libxml-perl",
    "lib/*/perl5/*/Email/Address/XS.pm": "libemail-address-xs-perl",
    "share/perl5/Convert/PEM.pm": "libconvert-pem-perl",
    "share/perl5/Crypt/JWT.pm": "libcrypt-jwt-perl",
    "share/perl5/Email/Sender.pm": "libemail-sender-perl",
    "share/perl5/IO/Socket/Timeout.pm": "libio-socket-timeout-perl",
    "share/perl5/IO/String.pm": "libio-string-perl",
    "share/perl5/MIME/Tools.pm": "libmime-tools-perl",
    "share/perl5/Net/LDAP.pm": "libnet-ldap-perl",
    "share/perl5/String/Random.pm": "libstring-random-perl",
}
PACKAGES = Path(__file__).with_name("debian_packages.sh")


def bring(*, for_proof: bool = False, for_long: bool = False) -> None:
    """Installs what is missing, if it can; also what only `make prove` needs, and what only the long tests need."""
    missing = []
    if chromium() is None:
        missing += ["chromium", "fonts-dejavu-core", "fonts-liberation"]
    if postgres_folder() is None:
        missing += ["postgresql"]
    files = PROGRAMS | (PROOF if for_proof else {}) | (LONG if for_long else {})
    missing += _missing(files)
    if missing:
        _install(missing)
    for program in IF_OFFERED:
        if shutil.which(program) is None and _is_offered(program):
            _install([program])


def bring_for_dist() -> None:
    """Installs what only `make dist` and the tests of its artefacts need, if it can."""
    if missing := _missing(DIST):
        _install(missing)


def _missing(files: Mapping[str, str]) -> list[str]:
    return [package for file, package in files.items() if not any(Path("/usr").glob(file))]


def _is_offered(package: str) -> bool:
    """Whether apt knows the package."""
    return (
        bool(shutil.which("apt-cache"))
        and not subprocess.run(
            ["apt-cache", "show", package], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode
    )


def _install(missing: list[str]) -> None:
    root = _as_root()
    if shutil.which("apt-get") is None or root is None:
        print(f"Missing: {', '.join(missing)}. Without apt-get and root (or sudo without a password) they stay so.")
        return
    print(f"Installing {', '.join(missing)}", flush=True)
    answer = subprocess.run(
        [*root, "sh", PACKAGES, *missing],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if answer.returncode != 0:
        print(answer.stdout[-4000:] + f"apt-get could not install {', '.join(missing)}.", flush=True)


def chromium() -> str | None:
    """Path of a Chromium or Chrome."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def postgres_folder() -> Path | None:
    """Folder of the newest PostgreSQL server's programs that Debian's packages brought, 15 or later."""
    results = [
        (int(initdb.parts[-3]), initdb.parent)
        for initdb in Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if initdb.parts[-3].isdigit()
    ]
    usable = [(major, folder) for major, folder in results if major >= MIN_POSTGRES_MAJOR]
    return max(usable)[1] if usable else None


def _as_root() -> list[str] | None:
    """The beginning of a command that runs as root; None if there is no way."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True).returncode == 0:
        return sudo
    return None
