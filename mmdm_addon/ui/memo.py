"""Costly facts for panels, which are drawn many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable

SHARE = 20
"""A fact that took t seconds is kept for SHARE times t, so that drawing takes at most a twentieth of the time."""


class Memo:
    """The last value of a function, until its key changes or it has grown old."""

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value = ""
        self._until = 0.0

    def get(self, key: Hashable, compute: Callable[[], str]) -> str:
        """The value for a key; computed anew when due."""
        now = time.monotonic()
        if key != self._key or now >= self._until:
            self._value, self._key = compute(), key
            end = time.monotonic()
            self._until = end + SHARE * (end - now)
        return self._value
