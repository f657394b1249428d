"""The lowest versions that pyproject.toml allows, one `name==version` a line, for pip.

Of the dependencies and of every extra that is named on the command line. A floor must be the number of a release: then
what is promised can be installed and tried.
"""

import pathlib
import re
import sys
import tomllib

project = tomllib.loads(pathlib.Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for wanted in dict.fromkeys(project["dependencies"] + [line for name in sys.argv[1:] for line in extras[name]]):
    found = re.fullmatch(r"([\w.-]+(?:\[[\w,-]+\])?)>=([\w.]+)", wanted)
    if not found:
        sys.exit(f"pyproject.toml: {wanted!r} is no floor, such as 'numpy>=2.0'.")
    print(f"{found[1]}=={found[2]}")
