"""The engine as the batch asks it: one request at a time, with progress and the seconds it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import runtime
from ..engine_client import CallCancelledError
from ..engine_link import Motion, protocol

Progress = Callable[[str, float], None]


class Stopped(BaseException):
    """Somebody pressed Ctrl-C. No `Exception`, so that no file is blamed for it."""


class Engine:
    """seconds: spent waiting for answers since the last `reset`. progress(what, share) is told while it waits."""

    def __init__(self, progress: Progress) -> None:
        self.seconds = 0.0
        self._progress = progress

    def reset(self) -> None:
        """Count seconds anew."""
        self.seconds = 0.0

    def start(self) -> str:
        """Start it and wait until it answers; what it is, in words. Raises `MotionError` where it cannot run."""
        call = runtime.client().submit("ping")
        call.wait()
        self._result(call)
        hello = runtime.client().hello or {}
        return f"torch {hello.get('torch')} on {hello.get('devices', ['?'])[0]}"

    def ask(
        self, method: str, motion: Motion, params: Mapping[str, Any] | None = None, **arrays: np.ndarray
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of the answer. Raises `MotionError`, and `Stopped` after Ctrl-C."""
        begun = time.perf_counter()
        call = runtime.client().submit(
            method, {"fps": motion.fps, **(params or {})}, {**protocol.motion_arrays(motion), **arrays}
        )
        try:
            call.wait(lambda call: self._progress(method, call.fraction))
            return self._result(call)
        finally:
            self.seconds += time.perf_counter() - begun

    @staticmethod
    def _result(call: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        try:
            return call.result()
        except CallCancelledError as error:  # nobody but Ctrl-C cancels here
            raise Stopped from error
