"""Sphinx's settings."""

import importlib.metadata

project = "mailwire"
author = "The mailwire authors"
copyright = "2026, The mailwire authors"
release = importlib.metadata.version("mailwire")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
# Our own pages link to headings of one another.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"mailwire {release}"
