"""Sphinx configuration; build with `sphinx-build -W --keep-going -b html docs docs/_build`."""

from importlib.metadata import version as installed_version

project = "jaxrec"
author = "the jaxrec authors"
copyright = f"2026, {author}"
release = version = installed_version("jaxrec")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "myst_nb",
]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = f"jaxrec {release}"

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

# The notebook is run at every build, and a failing cell fails the build.
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
