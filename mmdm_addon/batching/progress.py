"""What the terminal shows while a batch runs: plain lines on stderr, fit for a log."""

from __future__ import annotations

import sys
import time

EVERY = 10.0
"""Seconds of silence after which a long file says how far it is."""


class Progress:
    """of: files in the run. quiet: say nothing (another process speaks for this one)."""

    def __init__(self, of: int, quiet: bool) -> None:
        self.of, self.done, self.skipped = of, 0, 0
        self._quiet = quiet
        self._begun = self._spoke = time.monotonic()
        self._name = "the engine starts"

    def skip(self, count: int) -> None:
        """So many were done before."""
        self.skipped = self.done = count

    def begin(self, name: str) -> None:
        """Work on a file begins."""
        self._name = name

    def step(self, what: str, share: float) -> None:
        """The engine is at it."""
        if time.monotonic() - self._spoke > EVERY:
            self.say(f"[{self.done + 1}/{self.of}] {self._name}: {what} {share:.0%}{self.left}")

    def end(self, name: str, sentence: str) -> None:
        """A file is done."""
        self.done += 1
        self.say(f"[{self.done}/{self.of}] {name}: {sentence}{self.left}")

    @property
    def left(self) -> str:
        """The remaining time, in words; empty while nobody can know."""
        done = self.done - self.skipped
        if not done or self.done >= self.of:
            return ""
        seconds = (time.monotonic() - self._begun) / done * (self.of - self.done)
        return f" ({spoken(seconds)} left)"

    def say(self, text: str) -> None:
        """One line, at once."""
        self._spoke = time.monotonic()
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)


def spoken(seconds: float) -> str:
    """12 s, 3 min, 2 h 10 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
