"""The form data that a browser would submit for a rendered form."""

from __future__ import annotations

from html.parser import HTMLParser


class _Reader(HTMLParser):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.wanted, self.inside, self.templates = form, False, 0
        self.values: dict[str, list[str]] = {}
        self.select = self.area = ""
        self.chosen: list[str] = []
        self.first: str | None = None
        self.option: str | None = None
        self.is_chosen = self.is_multiple = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        config = {key: value or "" for key, value in attrs}
        if tag == "form":
            self.inside = self.wanted in (config.get("id"), config.get("action")) or (
                not self.wanted and "data-guard" in config
            )
        if tag == "template":
            self.templates += 1
        if not self.inside or self.templates:
            return
        name = config.get("name", "")
        if tag == "input" and name and config.get("type") not in ("submit", "file"):
            is_box = config.get("type") in ("checkbox", "radio")
            if not is_box or "checked" in config:
                self.values.setdefault(name, []).append(config.get("value", "on" if is_box else ""))
        elif tag == "select":
            self.select, self.chosen, self.first = name, [], None
            self.is_multiple = "multiple" in config
        elif tag == "option" and self.select:
            # Without a value, its text is.
            self.option = "" if "value" not in config else None
            self.is_chosen = "selected" in config
            if self.option is None:
                self.offer(config["value"])
        elif tag == "textarea":
            self.area = name
            self.values.setdefault(name, []).append("")

    def offer(self, value: str) -> None:
        self.first = value if self.first is None else self.first
        if self.is_chosen:
            self.chosen.append(value)

    def handle_data(self, data: str) -> None:
        if self.area:
            self.values[self.area][-1] += data
        elif self.option is not None:
            self.option += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False
        elif tag == "template":
            self.templates -= 1
        elif tag == "option" and self.option is not None:
            self.offer(self.option.strip())
            self.option = None
        elif tag == "select" and self.select and self.inside and not self.templates:
            if not self.is_multiple:
                self.chosen = self.chosen[-1:] or [self.first or ""]
            if self.chosen:
                self.values.setdefault(self.select, []).extend(self.chosen)
            self.select = ""
        elif tag == "textarea" and self.area:
            # A line break right after the tag is none of its text.
            self.values[self.area][-1] = self.values[self.area][-1].removeprefix("\n")
            self.area = ""


def filled(html: str, form: str = "") -> dict[str, list[str]]:
    """The values of the form with that id or action; without one, of the page's guarded form."""
    reader = _Reader(form)
    reader.feed(html)
    assert reader.values, f"there is no form {form!r}"
    return reader.values
