"""Sphinx's settings."""

import importlib.metadata

project = "mailwire"
author = "The mailwire authors"
copyright = "2026, The mailwire authors"
release = importlib.metadata.version("mailwire")
version = release

extensions = ["myst_parser", "sphinxcontrib.mermaid"]
myst_enable_extensions = ["colon_fence"]
# Our own pages link to headings of one another.
myst_heading_anchors = 3
# The fence that GitHub draws as a diagram becomes one here too.
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = f"mailwire {release}"
