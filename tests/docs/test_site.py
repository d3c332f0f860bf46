"""The built site: no warning, no link that leads nowhere, nothing from the network, equations that browsers draw."""

import sys

import pytest

from hfcompress import registry
from tests.snippets import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import check_site
import make_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built where its tools are installed (the extra `docs`)."""
    for name in ("sphinx", "myst_parser", "furo", "latex2mathml"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    assert make_site.build(folder) == []
    return folder / "html"


def test_every_page_is_built_and_equations_are_markup(site):
    pages, faults = check_site.check(site)
    assert faults == []
    names = {name.replace(".md", ".html") for name in make_site.pages() if name.endswith(".md")}
    assert names <= set(pages)
    assert pages["losses.html"].equations >= len(registry.methods("loss"))
    assert set(registry.methods("loss")) <= pages["losses.html"].anchors
    assert "\\frac" not in (site / "losses.html").read_text(encoding="utf-8")


def test_a_link_that_leads_nowhere_stops_the_build(tmp_path, monkeypatch, site):
    monkeypatch.setattr(make_site, "pages", lambda: {"index.md": "# One\n\n[two](two.md) [three](#three)\n"})
    assert make_site.build(tmp_path) == ["Sphinx warned of something: see above."]


HEAD = "<html><head></head><body>"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<p id="here"><a href="#here">x</a></p>', None),
        ('<a href="other.html#there">x</a>', None),
        ('<a href="https://example.org">x</a>', None),
        ("<ul><li>one<li>two</ul><br><img src='other.html'/>", None),
        ('<a href="#nowhere">x</a>', "#nowhere leads nowhere"),
        ('<a href="other.html#nowhere">x</a>', "other.html#nowhere leads nowhere"),
        ('<a href="missing.html">x</a>', "missing.html leads nowhere"),
        ('<script src="https://cdn.example.org/x.js"></script>', "loads https://cdn.example.org/x.js from the network"),
        ("<div><span></div></span>", "closes nothing"),
        ("<div>", "is not closed"),
    ],
)
def test_faults_are_found(body, fault, tmp_path):
    (tmp_path / "index.html").write_text(f"{HEAD}{body}</body></html>")
    (tmp_path / "other.html").write_text(f'{HEAD}<p id="there"></p></body></html>')
    _, faults = check_site.check(tmp_path)
    assert bool(faults) == bool(fault)
    assert fault is None or any(fault in text for text in faults)
