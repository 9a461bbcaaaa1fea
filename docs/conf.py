"""How `make docs` builds the pages.

Sphinx with MyST Markdown and notebooks that keep the outputs stored in them.
"""

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

import pascal_nm

project = "pascal-nm"
author = "the pascal-nm authors"
version = release = pascal_nm.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinxcontrib.mermaid",
]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4
myst_url_schemes = ["http", "https", "mailto"]
nb_execution_mode = "off"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"pascal-nm {version}"
html_show_copyright = False


def _stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Shapes such as (N, *shape) are no emphasis."""
    lines[:] = [re.sub(r"(?<!\*)\*(?=\w[\w ]*[),])", r"\\*", line) for line in lines]


def _inline(translator: Any, node: Any) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _displayed(translator: Any, node: Any) -> None:
    translator.body.append(f'<div class="math">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx.

    Equations become MathML, which browsers draw without a script or a network.
    """
    app.add_html_math_renderer("mathml", (_inline, None), (_displayed, None))
    app.connect("autodoc-process-docstring", _stars, priority=100)
