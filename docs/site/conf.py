"""Sphinx: a site of the Markdown pages that are there, and of the library's docstrings."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

project = "scaling"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = "scaling"
html_copy_source = False
root_doc = "docs/site/index"
source_suffix = {".md": "markdown"}
include_patterns = ["*.md", "docs/**.md", "scaling/**/README.md"]
exclude_patterns = [".venv*", "out", "**/.*"]
myst_heading_anchors = 4  # as links in the pages name them
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = True
nitpicky = False
