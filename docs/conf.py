# Copyright (c) the pic.cells contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation site, as tests/tools/docs.sh builds it: these pages, and those that antsibull-docs makes of the collection."""

project = "pic.cells"
author = "the pic.cells contributors"
html_title = "pic.cells"
html_theme = "furo"
html_favicon = "icon.svg"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
antsibull_ext_color_scheme = "none"  # site.css has it
html_copy_source = False
html_use_index = False
html_show_copyright = False
html_show_sphinx = False

extensions = ["myst_parser", "sphinx_antsibull_ext"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
highlight_language = "YAML+Jinja"

# Every link has to lead somewhere, but for those into Ansible's own documentation: nothing is looked up elsewhere, so the site needs no internet.
nitpicky = True
nitpick_ignore = [("ref", "action_plugins"), ("ref", "ansible_configuration_settings"), ("ref", "common_return_values")]
