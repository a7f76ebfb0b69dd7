"""Costly facts for panels, which are drawn many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

SHARE = 20
"""A fact that took t seconds is kept for SHARE times t, so that drawing takes at most a twentieth of the time."""


Value = TypeVar("Value")


class Memo(Generic[Value]):
    """The last value of a function, until its key changes or it has grown old."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: Value | None = None
        self._until = 0.0

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value for a key; computed anew when due."""
        now = time.monotonic()
        if self._value is None or key != self._key or now >= self._until:
            self._value, self._key = compute(), key
            end = time.monotonic()
            self._until = end + SHARE * (end - now)
        return self._value
