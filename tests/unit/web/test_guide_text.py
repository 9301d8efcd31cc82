"""Guides as HTML: snippets can be copied, and guide text is escaped."""

from __future__ import annotations

from tocsin.web.ui.formatting import render_html


def test_copyable_text_has_a_copy_button_reachable_by_keyboard() -> None:
    html = render_html('1. Paste:\n\n   ```json\n   {"a": "<b>&"}\n   ```\n\n2. Done.')
    assert html.count('class="copied-code" data-copy>') == 1
    assert (
        '<pre><code tabindex="0" class="language-json">{&quot;a&quot;: &quot;&lt;b&gt;&amp;&quot;}\n</code></pre>'
        in html
    )
    assert "data-copy-button" in html
    assert html.index("copied-code") < html.index("data-copy-button") < html.index("Done.")


def test_guide_html_is_escaped_and_headings_are_nested() -> None:
    html = render_html("# Title\n\n<script>alert(1)</script>\n\n`<i>`")
    assert "<h2>Title</h2>" in html
    assert "<script>" not in html
    assert "<i>" not in html
