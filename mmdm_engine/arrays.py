"""One array namespace for NumPy and torch (the array API standard, https://data-apis.org/array-api).

Inside Blender only NumPy is there, and in most supported versions it is NumPy 1, which lacks some of the standard's
names; everything else goes through array-api-compat.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMPY_1_NAMES = {
    "acos": "arccos", "asin": "arcsin", "atan2": "arctan2", "concat": "concatenate", "cumulative_sum": "cumsum",
}  # fmt: skip


class _Numpy:
    """NumPy with the standard's spelling."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name) if hasattr(np, name) else getattr(np, _NUMPY_1_NAMES[name])

    @staticmethod
    def astype(x: Any, dtype: Any) -> Any:
        """``x`` as another dtype (a method only, before NumPy 2.1)."""
        return np.asarray(x).astype(dtype, copy=False)


_numpy = _Numpy()


def namespace(*arrays: Any) -> Any:
    """The array API namespace shared by ``arrays`` (scalars are ignored)."""
    if all(isinstance(a, np.ndarray | np.generic | float | int | list | tuple) for a in arrays):
        return _numpy
    from array_api_compat import array_namespace

    return array_namespace(*[a for a in arrays if not isinstance(a, float | int)])


def index(xp: Any, values: Any, like: Any) -> Any:
    """An int64 index array on the device of ``like``."""
    if xp is _numpy:
        return np.asarray(values, np.int64)
    return xp.asarray(values, dtype=xp.int64, device=like.device)


def constant(xp: Any, values: Any, like: Any) -> Any:
    """``values`` with the dtype and device of ``like``."""
    if xp is _numpy:
        return np.asarray(values, like.dtype)
    return xp.asarray(values, dtype=like.dtype, device=like.device)
