"""The process configuration: typed variables, unknown names rejected, secrets from files."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from tocsin.core.config.environment import ConfigError, LogFormat, read


def test_without_variables_everything_has_its_default() -> None:
    config = read({"PATH": "/bin"})
    assert config.database_url is None
    assert config.secret_keys == ()
    assert config.log_format is LogFormat.CONSOLE
    assert config.trusted_proxies == ()


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"TOCSIN_SMPT_URL": "smtp://mail"}, "TOCSIN_SMPT_URL"),
        ({"TOCSIN_EMAIL_FROM_FILE": "/x"}, "TOCSIN_EMAIL_FROM_FILE"),
        ({"TOCSIN_SMTP_URL": "http://mail"}, "TOCSIN_SMTP_URL"),
        ({"TOCSIN_SMTP_URL": "smtp://mail:port"}, "TOCSIN_SMTP_URL"),
        ({"TOCSIN_BASE_URL": "https://a.example/path"}, "TOCSIN_BASE_URL"),
        ({"TOCSIN_BASE_URL": "a.example"}, "TOCSIN_BASE_URL"),
        ({"TOCSIN_DATABASE_URL": "mysql://x"}, "TOCSIN_DATABASE_URL"),
        ({"TOCSIN_DATABASE_URL": "postgresql://u@host/t?sslmod=require"}, 'TOCSIN_DATABASE_URL.*"sslmod"'),
        ({"TOCSIN_TRUSTED_PROXIES": "10.0.0.0/33"}, "TOCSIN_TRUSTED_PROXIES"),
        ({"TOCSIN_ALLOW_TARGETS": "host.example"}, "TOCSIN_ALLOW_TARGETS"),
        ({"TOCSIN_EMAIL_FROM": "tocsin"}, "TOCSIN_EMAIL_FROM"),
        ({"TOCSIN_EMAIL_FROM": "Tocsin <tocsin@>"}, "TOCSIN_EMAIL_FROM"),
        ({"TOCSIN_LOG_FORMAT": "xml"}, "TOCSIN_LOG_FORMAT"),
        ({"TOCSIN_TEST_CLOCK": "maybe"}, "TOCSIN_TEST_CLOCK"),
        ({"TOCSIN_SECRET_KEY": "x" * 31}, "at least 32 characters"),
        ({"TOCSIN_SECRET_KEY": "n" * 32 + ",old"}, "TOCSIN_SECRET_KEY"),
        ({"TOCSIN_SECRET_KEY_FILE": "/does/not/exist"}, "TOCSIN_SECRET_KEY_FILE"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(variables: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        read(variables)


def test_secret_comes_from_variable_or_file_but_not_both(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    new, old = "n" * 32, "o" * 40
    file.write_text(f"{new}\n{old}\n")
    assert read({"TOCSIN_SECRET_KEY_FILE": str(file)}).secret_keys == (new, old)
    with pytest.raises(ConfigError, match="both set"):
        read({"TOCSIN_SECRET_KEY_FILE": str(file), "TOCSIN_SECRET_KEY": "x"})


def test_secrets_are_not_in_the_text_of_a_configuration() -> None:
    config = read(
        {
            "TOCSIN_SECRET_KEY": "sesame-key-of-at-least-32-characters",
            "TOCSIN_SMTP_URL": "smtp://u:sesame-mail@mail",
            "TOCSIN_DATABASE_URL": "postgresql://u:sesame-db@host/tocsin",
            "TOCSIN_HEARTBEAT_URL": "https://beat.example/sesame-beat",
        }
    )
    assert "sesame" not in repr(config)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("TOCSIN_DATABASE_URL", "postgresql://u:100%sesame@host/tocsin"),
        ("TOCSIN_DATABASE_URL", "postgresql://u:x@sesame@host/tocsin"),
        ("TOCSIN_DATABASE_URL", "postgresql://u:sesame/x@host/tocsin"),
        ("TOCSIN_DATABASE_URL", "postgresql://u:12/sesame@host/tocsin"),
        ("TOCSIN_SMTP_URL", "smtp://u:sesame/x@mail:25"),
        ("TOCSIN_SMTP_URL", "smtp://u:[sesame@mail"),
    ],
)
def test_badly_encoded_password_is_rejected_without_showing_it(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*percent-encoded") as refused:
        read({name: url})
    assert "sesame" not in str(refused.value)


def test_lists_of_networks_are_parsed() -> None:
    config = read({"TOCSIN_TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8"})
    assert config.trusted_proxies == (ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("10.0.0.0/8"))


def test_the_public_address_has_no_slash_at_the_end() -> None:
    assert read({"TOCSIN_BASE_URL": "https://tocsin.example.org/"}).public_url == "https://tocsin.example.org"
