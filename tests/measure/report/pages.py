"""Reads a page as a browser would: its tags, its texts and its tables."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "hr"}


class Page(HTMLParser):
    """A page's elements in order, the texts of its table rows, and whatever is not closed as it was opened."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.ids, self.misplaced, self.rows, self.open = [], [], [], [], []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += " " + data.strip()

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]

    def row(self, start):
        """Return the cells of the first row whose heading begins so."""
        return next([c.strip() for c in row] for row in self.rows if row and row[0].strip().startswith(start))
