"""Costly facts for panels, which are drawn many times a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import bpy

SHARE = 100
"""A fact that took t seconds is kept for SHARE times t, so that it takes at most a hundredth of the time."""
FRESH = 0.1
"""Seconds within which several views are drawn of one change."""

_wanted = 0.0  # when everything was last asked to be drawn anew

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """The last value of a function, until its key changes or it has grown old.

    Whoever draws an old one is drawn once more when it is due, so that nothing wrong stays on the screen.
    """

    def __init__(self, share: int = SHARE) -> None:
        self._share = share
        self._key: Hashable = None
        self._value: Value | None = None
        self._until = 0.0
        self._from = 0.0

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value for a key; computed anew when due."""
        now = time.monotonic()
        if self._value is None or key != self._key or now >= self._until or self._from < _wanted:
            self._value, self._key = compute(), key
            end = time.monotonic()
            self._from, self._until = end, end + self._share * (end - now)
        elif not bpy.app.background and now - self._from > FRESH and not bpy.app.timers.is_registered(_redraw):
            bpy.app.timers.register(_redraw, first_interval=self._until - now)
        return self._value


def _redraw() -> None:
    global _wanted
    _wanted = time.monotonic()
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()
