"""Finding what a folder declares: adding an audit or a probe is adding a file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Protocol, TypeVar


class Named(Protocol):
    """What is declared has a name of its own."""

    @property
    def name(self) -> str:
        """The name."""


T = TypeVar("T", bound=Named)


def discover(package: str, attribute: str, kind: type[T]) -> dict[str, T]:
    """Return what the modules of a package declare as `attribute`, by name, in the order of the modules.

    Raises
    ------
    ValueError
        If two share a name.
    """
    found: dict[str, T] = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        declared = getattr(importlib.import_module(f"{package}.{module.name}"), attribute, None)
        if isinstance(declared, kind):
            if declared.name in found:
                raise ValueError(
                    f"two modules of {package} declare {declared.name!r}: rename the one in {module.name}.py"
                )
            found[declared.name] = declared
    return found
