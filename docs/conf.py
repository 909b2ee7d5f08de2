"""Settings of the documentation site. `make docs` builds it; what the pages need beyond Sphinx is in `_ext/`."""

import os
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the notebooks, whose models are small

import gerne_hf  # noqa: E402

project = "gerne_hf"
author = "The gerne_hf founders"
release = gerne_hf.__version__
about = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
repository = about.get("urls", {}).get("Repository", "").rstrip("/")

extensions = ["myst_nb", "sphinx_copybutton", "api_pages", "borrowed", "pictures"]
exclude_patterns = ["_build", "_ext", "README.md"]

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # bars of progress
nb_render_markdown_format = "myst"

autodoc_typehints = "none"  # docstrings say the types
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

smartquotes = False
html_theme = "furo"
html_title = "gerne_hf"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
html_copy_source = False
html_theme_options = {"source_repository": repository, "source_branch": "main", "source_directory": "docs/"}
if not repository:
    html_theme_options = {}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
