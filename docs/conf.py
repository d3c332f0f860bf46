"""Settings of the site, for Sphinx: Markdown pages, equations as MathML, nothing fetched when a page is looked at."""

from typing import Any, NoReturn

from docutils import nodes
from latex2mathml.converter import convert

from hfcompress import __version__

project = "hfcompress"
author = "The hfcompress maintainers"
version = release = __version__
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"hfcompress {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False


def setup(app: Any) -> dict[str, Any]:
    """Set equations as MathML, which browsers draw themselves; Sphinx's renderers load a script from the network."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}


def _inline(writer: Any, node: Any) -> NoReturn:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: Any) -> NoReturn:
    writer.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode
