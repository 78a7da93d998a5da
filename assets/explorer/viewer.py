"""The viewer that draws the maps: one script of Apple's embedding-atlas, as its wheel ships it.

Of the wheel only that script is used: the notebook widget, which takes queries and hands out the predicate of what is
selected. What the wheel depends on is 6.8 GB that a script in a browser does not need, so it is installed alone.
Releases from 0.24 on draw nothing without WebGPU, as on remote desktops; 0.22 falls back to WebGL2.
"""

import importlib.util
from importlib import metadata
from pathlib import Path

from store.schema import CounterstainError

VERSION = "0.22.0"
INSTALL = f"pip install --no-deps embedding-atlas=={VERSION}"
_SCRIPT = Path("widget_static", "anywidget", "index.js")


def viewer_script() -> Path:
    """Return the path of the viewer's script.

    Raises
    ------
    CounterstainError
        If the viewer is not installed, or another release of it.
    """
    # The package itself cannot be imported without its dependencies.
    spec = importlib.util.find_spec("embedding_atlas")
    if spec is None or not spec.submodule_search_locations:
        raise CounterstainError(f"the explorer's viewer is not installed: `{INSTALL}`, or `make setup`, installs it.")
    installed = metadata.version("embedding-atlas")
    if installed != VERSION:
        raise CounterstainError(
            f"the explorer needs embedding-atlas {VERSION}, {installed} is installed: `{INSTALL}` replaces it."
        )
    return Path(spec.submodule_search_locations[0]) / _SCRIPT
