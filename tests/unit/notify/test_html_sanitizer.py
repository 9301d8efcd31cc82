from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.notify.text import formatting


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("plain\ntext", "plain\ntext"),
        ("<p>One</p><p>Two<br>three</p>", "One\nTwo\nthree"),
        ("<ul><li>a</li><li>b</li></ul>", "a\nb"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a b"),
        ("a &amp; b", "a &amp; b"),
        ("<b>a &amp; b</b>", "a & b"),
        ("<style>p{}</style><p>x</p><script>y()</script>", "x"),
        ("<SCRIPT>a</script ><title>t</title><header>İ<br>h</header><style>b</STYLE\n>x", "İ\nhx"),
        ("<html><head><title>t</title><body>no end of the head", "no end of the head"),
        ("<p>x</p><script>never ends", "x"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("at Object.<anonymous> (/app/index.js:1)\nat List<String>.run()", None),
        ("state: <none>\nnode: </unknown>", None),
    ],
)
def test_markup_becomes_lines(source: str, expected: str | None) -> None:
    assert formatting.plain(source) == (source if expected is None else expected)


def test_angle_brackets_are_escaped_in_mail_too() -> None:
    made = formatting.safe_html("at Object.<anonymous> (/app/index.js:1)\nat List<String>.run()")
    assert made == "at Object.&lt;anonymous&gt; (/app/index.js:1)<br>\nat List&lt;String&gt;.run()"


@pytest.mark.parametrize("made", [formatting.safe_html, formatting.plain])
@pytest.mark.parametrize("begin", ["", "<b>x</b>"])
def test_truncated_text_is_marked_in_both_parts(made: Callable[[str], str], begin: str) -> None:
    assert made(begin + "word " * 10_000).endswith("…")


@pytest.mark.parametrize("piece", ["<script>", "<br", "</p", "<style ", "<title>x", "<head><", "</td ", "\n ", "<a "])
def test_a_hostile_text_takes_no_time(piece: str) -> None:
    """A mail to each person and on each way has it: seconds for one would hold up all of them."""
    started_at = time.process_time()
    formatting.plain("<b>x</b>" + piece * (60_000 // len(piece)))
    assert time.process_time() - started_at < 0.5


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    formatting.plain(text)
    made = formatting.safe_html(text)
    assert "<script" not in made.lower()


@given(
    st.sampled_from(["script", "iframe", "object", "img", "svg", "form", "style", "link", "meta", "base"]), st.text()
)
def test_no_tag_that_does_something_survives(tag: str, text: str) -> None:
    for source in (f"<p>x</p><{tag} {text}>", f"<{tag}/onload={text}>", f"<<{tag}>{text}</{tag}><p>"):
        made = formatting.safe_html(f"<b>y</b>{source}")
        assert f"<{tag}" not in made.lower()


def test_a_very_long_text_is_cut() -> None:
    assert len(formatting.plain("word " * 100_000)) <= formatting.MAX_TEXT_CHARS
    assert len(formatting.safe_html("<b>" + "word " * 100_000)) < formatting.MAX_TEXT_CHARS + 100
