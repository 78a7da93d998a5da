"""Array types and category codes shared by the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Categorical: TypeAlias = "Sequence[str | None] | npt.NDArray[Any]"


@dataclass(frozen=True)
class Categories:
    """A categorical column as codes.

    Attributes
    ----------
    codes
        ``(n,)`` codes in ``0 .. len(names)-1``; -1 where the value is unknown.
    names
        What each code stands for, sorted.
    """

    codes: IntArray
    names: tuple[str, ...]

    @property
    def known(self) -> BoolArray:
        """``(n,)`` True where the value is known."""
        return self.codes >= 0


def encode(values: Categorical, *, what: str) -> Categories:
    """Encode strings (None is unknown) or integers (negative is unknown).

    Parameters
    ----------
    values
        ``(n,)`` strings or None; or integer codes, negative where unknown.
    what
        What the column is, for the error message.

    Returns
    -------
    Categories
        Codes without gaps: a value that no row has takes no code.

    Raises
    ------
    ValueError
        If the values are neither integers nor strings, or not one-dimensional.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{what} must be one-dimensional, not of shape {array.shape}")
    if array.dtype.kind in "iu":
        known = array >= 0
        distinct, inverse = np.unique(array[known], return_inverse=True)
        names = tuple(str(value) for value in distinct)
    else:
        listed = [None if value is None else str(value) for value in array.tolist()]
        if array.dtype.kind not in "OU" or any(not isinstance(v, str | None) for v in array.tolist()):
            raise ValueError(f"{what} must hold strings (or None) or integer codes, not {array.dtype}")
        known = np.array([value is not None for value in listed], dtype=np.bool_)
        ordered = sorted({value for value in listed if value is not None})
        position = {value: code for code, value in enumerate(ordered)}
        inverse = np.array([position[value] for value in listed if value is not None], dtype=np.int64)
        names = tuple(ordered)
    codes = np.full(len(array), -1, dtype=np.int64)
    codes[known] = inverse
    return Categories(codes, names)


def require_aligned(n: int, **columns: npt.NDArray[Any]) -> None:
    """Raise ValueError unless every column has `n` rows."""
    for name, column in columns.items():
        if column.shape != (n,):
            raise ValueError(f"{name} must have shape ({n},), one value per image, not {column.shape}")
