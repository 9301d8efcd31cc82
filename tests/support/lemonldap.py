"""LemonLDAP::NG with OpenLDAP, both of Debian, started on loopback: an OpenID and a SAML provider of one directory.

Its SAML is Lasso's, its OpenID Connect its own. Skips the test where the packages are missing.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.doubles.saml import certificate, saml_key

PORTAL = Path("/usr/share/lemonldap-ng/portal")
CLIENT_SECRET = "a-client-secret"
PASSWORD = "a password of the directory"
BASE = "dc=example,dc=org"

_SLAPD = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {folder}/slapd.pid
database mdb
maxsize 10485760
suffix "{base}"
rootdn "cn=admin,{base}"
rootpw secret
directory {folder}/ldap
"""
_ENTRIES = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: uid=ann,{BASE}
objectClass: inetOrgPerson
uid: ann
cn: Ann Andersson
sn: Andersson
mail: ann@example.org
userPassword: {PASSWORD}

dn: uid=eve,{BASE}
objectClass: inetOrgPerson
uid: eve
cn: Eve
sn: Eve
mail: eve@example.org
userPassword: {PASSWORD}

dn: cn=Desk,{BASE}
objectClass: groupOfNames
cn: Desk
member: uid=ann,{BASE}
"""
_INI = """\
[all]
logLevel = warn
useSafeJail = 1
[configuration]
type = File
dirName = {folder}/conf
localStorage = Cache::NullCache
[portal]
staticPrefix = /static
templateDir = /usr/share/lemonldap-ng/portal/templates
languages = en
"""
_PSGI = "use Lemonldap::NG::Portal; Lemonldap::NG::Portal->run({ checkTime => 1 });\n"
_FIELD = re.compile(r"<input[^>]*>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LemonLdap:
    """A running provider."""

    url: str

    @property
    def metadata(self) -> str:
        """Its SAML metadata."""
        return httpx.get(f"{self.url}/saml/metadata", timeout=60).text

    def sign_in(self, location: str, login: str) -> tuple[str, dict[str, str]]:
        """Signs in as `login`; returns where the browser is sent, with the form that it posts there, if any."""
        with httpx.Client(timeout=60) as browser:
            page = browser.get(location)
            form = {**_fields(page.text), "user": login, "password": PASSWORD}
            page = browser.post(urljoin(str(page.url), _action(page.text)), data=form)
            for _hop in range(5):
                target = page.headers.get("location")
                if target is None:
                    break
                if not target.startswith(self.url):
                    return target, {}
                page = browser.get(target)
            return _action(page.text), _fields(page.text)


@contextmanager
def lemonldap(folder: Path, *, saml_metadata: str, redirect_uri: str) -> Iterator[LemonLdap]:
    """A running directory and provider, which knows Tocsin by its SAML metadata and its redirect URI."""
    if not PORTAL.exists() or not shutil.which("slapd", path="/usr/sbin") or not shutil.which("plackup"):
        pytest.skip("LemonLDAP::NG and OpenLDAP are not installed")
    ldap_port, port = _free_port(), _free_port()
    url = f"http://127.0.0.1:{port}"
    for name in ("ldap", "conf", "sessions", "locks"):
        (folder / name).mkdir()
    (folder / "slapd.conf").write_text(_SLAPD.format(folder=folder, base=BASE))
    (folder / "entries.ldif").write_text(_ENTRIES)
    (folder / "lemonldap-ng.ini").write_text(_INI.format(folder=folder))
    (folder / "portal.psgi").write_text(_PSGI)
    configuration = _configuration(folder, url, ldap_port, saml_metadata, redirect_uri)
    (folder / "conf" / "lmConf-1.json").write_text(json.dumps(configuration))
    subprocess.run(
        ["/usr/sbin/slapadd", "-f", folder / "slapd.conf", "-l", folder / "entries.ldif"],
        check=True,
        capture_output=True,
    )
    commands = (
        ["/usr/sbin/slapd", "-d", "0", "-f", folder / "slapd.conf", "-h", f"ldap://127.0.0.1:{ldap_port}"],
        ["plackup", "-s", "HTTP::Server::PSGI", "-o", "127.0.0.1", "-p", str(port), folder / "portal.psgi"],
    )
    environment = {"LLNG_DEFAULTCONFFILE": str(folder / "lemonldap-ng.ini"), "PATH": "/usr/bin:/bin"}
    with (folder / "log").open("w") as log:
        processes = [subprocess.Popen(command, stdout=log, stderr=log, env=environment) for command in commands]
        try:
            _wait(f"{url}/saml/metadata", folder / "log")
            yield LemonLdap(url)
        finally:
            for process in processes:
                process.kill()
                process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _wait(url: str, log: Path) -> None:
    for _attempt in range(30):
        try:
            if httpx.get(url, timeout=30).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-4000:])


def _configuration(folder: Path, url: str, ldap_port: int, saml_metadata: str, redirect_uri: str) -> dict[str, object]:
    key = saml_key("lemonldap").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {
        "cfgNum": 1,
        "cfgAuthor": "tests",
        "cfgDate": 1,
        "cfgVersion": "2.21.2",
        "domain": "127.0.0.1",
        "portal": f"{url}/",
        "securedCookie": 0,
        "locationRules": {"127.0.0.1": {"default": "accept"}},
        "key": "for tests only",
        "globalStorage": "Apache::Session::File",
        "globalStorageOptions": {"Directory": f"{folder}/sessions", "LockDirectory": f"{folder}/locks"},
        "persistentStorage": "Apache::Session::File",
        "persistentStorageOptions": {"Directory": f"{folder}/sessions", "LockDirectory": f"{folder}/locks"},
        "localSessionStorage": "Cache::NullCache",
        "tokenUseGlobalStorage": 1,
        "authentication": "LDAP",
        "userDB": "Same",
        "passwordDB": "Null",
        "registerDB": "Null",
        "captcha_mail_enabled": 0,
        "captcha_register_enabled": 0,
        "portalDisplayRegister": 0,
        "portalDisplayResetPassword": 0,
        "ldapServer": f"ldap://127.0.0.1:{ldap_port}",
        "ldapBase": BASE,
        "managerDn": f"cn=admin,{BASE}",
        "managerPassword": "secret",
        "ldapExportedVars": {"uid": "uid", "cn": "cn", "mail": "mail"},
        "ldapGroupBase": BASE,
        "ldapGroupObjectClass": "groupOfNames",
        "ldapGroupAttributeName": "member",
        "ldapGroupAttributeNameUser": "dn",
        "ldapGroupAttributeNameSearch": "cn",
        "whatToTrace": "uid",
        "macros": {"verified": "1"},
        "issuerDBSAMLActivation": 1,
        "samlEntityID": "#PORTAL#/saml/metadata",
        "samlOrganizationName": "Example",
        "samlOrganizationDisplayName": "Example",
        "samlOrganizationURL": url,
        "samlServicePrivateKeySig": key,
        "samlServicePublicKeySig": certificate("lemonldap"),
        "samlServiceUseCertificateInResponse": 1,
        "samlServiceSignatureMethod": "RSA_SHA256",
        "samlSPMetaDataXML": {"tocsin": {"samlSPMetaDataXML": saml_metadata}},
        "samlSPMetaDataOptions": {
            "tocsin": {
                "samlSPMetaDataOptionsNameIDFormat": "persistent",
                "samlSPMetaDataOptionsSignSSOMessage": 1,
                "samlSPMetaDataOptionsCheckSSOMessageSignature": 0,
                "samlSPMetaDataOptionsEncryptionMode": "none",
            }
        },
        "samlSPMetaDataExportedAttributes": {
            "tocsin": {"uid": "1;username", "mail": "1;email", "cn": "0;name", "groups": "0;groups"}
        },
        "issuerDBOpenIDConnectActivation": 1,
        "oidcServicePrivateKeySig": key,
        "oidcServicePublicKeySig": certificate("lemonldap"),
        "oidcServiceKeyIdSig": "first",
        "oidcServiceAllowAuthorizationCodeFlow": 1,
        "oidcRPMetaDataOptions": {
            "tocsin": {
                "oidcRPMetaDataOptionsClientID": "tocsin",
                "oidcRPMetaDataOptionsClientSecret": CLIENT_SECRET,
                "oidcRPMetaDataOptionsRedirectUris": redirect_uri,
                "oidcRPMetaDataOptionsIDTokenSignAlg": "RS256",
                "oidcRPMetaDataOptionsRequirePKCE": 1,
                "oidcRPMetaDataOptionsBypassConsent": 1,
            }
        },
        "oidcRPMetaDataExportedVars": {
            "tocsin": {
                "preferred_username": "uid",
                "name": "cn",
                "email": "mail",
                "email_verified": "verified;bool",
                "groups": "groups;string;always",
            }
        },
        "oidcRPMetaDataOptionsExtraClaims": {
            "tocsin": {"profile": "name preferred_username groups", "email": "email email_verified"}
        },
    }


def _fields(page: str) -> dict[str, str]:
    """The hidden fields of a page's forms."""
    fields = {}
    for field in _FIELD.findall(page):
        name, value = re.search(r'name="([^"]*)"', field), re.search(r'value="([^"]*)"', field, re.DOTALL)
        if name and value and "hidden" in field:
            fields[name[1]] = value[1].replace("&#x2B;", "+").replace("&#x3D;", "=").replace("&amp;", "&")
    return fields


def _action(page: str) -> str:
    found = re.search(r'<form[^>]*action="([^"]*)"', page)
    return found[1].replace("&amp;", "&") if found else ""
