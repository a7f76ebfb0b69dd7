"""The engine as the batch asks it: one request at a time, with progress and the seconds it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .. import runtime, runtime_probe
from ..engine_client import CallCancelledError
from ..engine_link import Motion, protocol

Progress = Callable[[str, float], None]

_TRIALS: dict[str, tuple[str, dict[str, int]]] = {
    "detect": ("detect", {}),
    "fill": ("fill_gap", {"start": runtime_probe.START, "stop": runtime_probe.STOP}),
    "refine": ("refine", {"start": 0, "stop": runtime_probe.FRAMES}),
}
"""Complete is not tried: it may have no prior, which concerns only files that have lost a limb."""


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

    def start(self, steps: Iterable[str]) -> str:
        """Start it and let it do each of `STEPS` once to a made-up walk, so that no file is blamed for a broken engine.

        What it is, in words. Raises `MotionError` where it cannot run.
        """
        for method, params in (_TRIALS[step] for step in steps if step in _TRIALS):
            self.ask(method, runtime_probe.walk(), params)
        self.reset()
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
