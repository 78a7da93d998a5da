"""Finding what is registered: a module in its folder, or an entry point of another distribution."""

import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import TypeVar

from store.schema import CounterstainError

T = TypeVar("T")


def discover(package: ModuleType, attribute: str, group: str, kind: type[T]) -> dict[str, T]:
    """Return every `kind` found, by name: `attribute` of each module of `package`, then entry points of `group`.

    Raises
    ------
    CounterstainError
        If two have one name, or an entry point cannot be loaded or is not a `kind`.
    """
    found: dict[str, T] = {}
    for origin, thing in _candidates(package, attribute, group):
        if not isinstance(thing, kind):
            raise CounterstainError(f"{origin} is a {type(thing).__name__}, not a {kind.__name__}.")
        name = str(thing.name)  # type: ignore[attr-defined]  # every registered kind is named
        if name in found:
            raise CounterstainError(f"{origin} registers {name!r}, which is already taken: give it another name.")
        found[name] = thing
    return found


def _candidates(package: ModuleType, attribute: str, group: str) -> Iterator[tuple[str, object]]:
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        if hasattr(loaded, attribute):
            yield f"{loaded.__name__}.{attribute}", getattr(loaded, attribute)
    for point in sorted(entry_points(group=group), key=lambda p: p.name):
        origin = f"entry point {group}:{point.name} ({point.value})"
        try:
            thing = point.load()
        except (ImportError, AttributeError) as error:
            raise CounterstainError(f"{origin} cannot be loaded: {error}. Repair or remove its package.") from error
        yield origin, thing
