"""The add-on's end of the worker process: start it, ask it, hear it, end it.

Nothing here knows Blender. Requests are written and answers read by threads, so that the window never waits on a pipe;
`Call.poll` hands the answers over to the main thread.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine_link import ENGINE_HOME, MotionError, protocol

KILL_AFTER = 1.0
"""Seconds a cancelled request may take to stop before its process is killed."""
LOG_LINES = 400
_POLL_INTERVAL = 0.01


class WorkerError(MotionError):
    """The worker could not be started or died."""


class CallCancelledError(MotionError):
    """The request was cancelled; there is nothing to apply."""


@dataclass
class Call:
    """One request under way; `poll` it until `finished`, then take `result`."""

    id: int
    client: EngineClient = field(repr=False)
    done: int = 0
    of: int = 0
    seconds_left: float | None = None
    finished: bool = False
    header: dict[str, Any] = field(default_factory=dict, repr=False)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    error: MotionError | None = None
    _cancelled_at: float | None = field(default=None, repr=False)

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return min(1.0, self.done / self.of) if self.of else 0.0

    @property
    def cancelling(self) -> bool:
        """True between `cancel` and the end."""
        return self._cancelled_at is not None and not self.finished

    def poll(self) -> bool:
        """Take in what has arrived; True once finished. Never waits."""
        self.client._dispatch()
        if self.cancelling and time.monotonic() - (self._cancelled_at or 0) > KILL_AFTER:
            self.client.kill()
            self._end(CallCancelledError("Cancelled; nothing was changed."))
        return self.finished

    def cancel(self) -> None:
        """Ask the worker to stop; if it has not within `KILL_AFTER` seconds, `poll` kills it."""
        if not self.finished and self._cancelled_at is None:
            self._cancelled_at = time.monotonic()
            self.client._send({"method": "cancel", "params": {"id": self.id}})

    def wait(self, on_progress: Callable[[Call], None] | None = None) -> None:
        """Block until finished. Ctrl-C in a terminal cancels."""
        seen = -1
        try:
            while not self.poll():
                if on_progress is not None and self.done != seen:
                    seen = self.done
                    on_progress(self)
                time.sleep(_POLL_INTERVAL)
        except KeyboardInterrupt:
            self.cancel()
            while not self.poll():
                time.sleep(_POLL_INTERVAL)

    def result(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of the answer. Raises `MotionError` with the sentence for the user."""
        if self.error is not None:
            raise self.error
        if not self.finished:
            raise RuntimeError("The call has not finished.")
        return self.header, self.arrays

    def _end(self, error: MotionError | None) -> None:
        if not self.finished:
            self.finished, self.error = True, error
            self.client._calls.pop(self.id, None)

    def _hear(self, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        event = header.get("event")
        if event == "progress":
            self.done, self.of, self.seconds_left = header["done"], header["of"], header.get("seconds_left")
        elif self._cancelled_at is not None:  # an answer that overtook the cancel is not wanted either
            self._end(CallCancelledError("Cancelled; nothing was changed."))
        elif event == "result":
            self.header, self.arrays = header, arrays
            self._end(None)
        else:
            self._end(MotionError(str(header.get("message", "The engine gave no reason."))))


class EngineClient:
    """One worker process, started when first needed and again after a death.

    command: program and arguments of the worker. environment: entries on top of this process's own.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.command = tuple(command)
        self.hello: dict[str, Any] | None = None
        self.failure: str = ""
        self._environment = environment or {}
        self._ids = itertools.count(1)
        self._calls: dict[int, Call] = {}
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._incoming: queue.Queue[tuple[int, protocol.Message | None]] = queue.Queue()
        self._outgoing: queue.Queue[list[bytes] | None] = queue.Queue()
        self._threads: list[threading.Thread] = []
        atexit.register(self.stop)

    @property
    def running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> list[str]:
        """The last lines the worker wrote to stderr."""
        return list(self._log)

    def start(self) -> None:
        """Start the process unless it runs. Returns before it has greeted. Raises `WorkerError`."""
        self._dispatch()
        if self.running:
            return
        self._reap()
        self.hello, self.failure = None, ""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")}
        environment |= {
            "PYTHONPATH": str(ENGINE_HOME),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8",
            **self._environment,
        }
        try:
            self._process = process = subprocess.Popen(
                self.command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise WorkerError(
                f"The engine could not be started with {self.command[0]} ({error.strerror or error}). "
                "Choose another Python in the preferences of this extension."
            ) from error
        self._incoming, self._outgoing = queue.Queue(), queue.Queue()
        log = threading.Thread(target=self._read_log, args=(process,), name="mmdm-log", daemon=True)
        self._threads = [
            log,
            threading.Thread(target=self._read, args=(process, self._incoming, log), name="mmdm-reader", daemon=True),
            threading.Thread(target=self._write, args=(process, self._outgoing), name="mmdm-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, method: str, params: dict[str, Any] | None = None, arrays: dict[str, np.ndarray] | None = None
    ) -> Call:
        """Send a request, starting the worker if need be. Never waits. Raises `WorkerError` if it cannot start."""
        self.start()
        call = Call(next(self._ids), self)
        self._send({"id": call.id, "method": method, "params": params or {}}, arrays)
        self._calls[call.id] = call
        return call

    def stop(self) -> None:
        """End the process: politely, then not. Calls under way end as cancelled."""
        for call in list(self._calls.values()):
            call._end(CallCancelledError("The engine was stopped; nothing was changed."))
        process = self._process
        if process is not None and process.poll() is None:
            self._send({"method": "shutdown"})
            self._outgoing.put(None)
            try:
                process.wait(KILL_AFTER)
            except subprocess.TimeoutExpired:
                process.kill()
        self._reap()

    def close(self) -> None:
        """`stop` for good."""
        self.stop()
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """End the process now. Other calls learn of it by `Call.poll`."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _reap(self) -> None:
        """Collect the dead process and close its pipes, so that neither zombie nor descriptor is left."""
        process, self._process = self._process, None
        if process is None:
            return
        self._outgoing.put(None)
        process.wait()
        for thread in self._threads:
            thread.join(KILL_AFTER)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):  # what could not be flushed to a dead process
                    pipe.close()
        self._fail_calls(process.returncode)

    def _send(self, header: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
        self._outgoing.put(protocol.encode(header, arrays))

    @staticmethod
    def _write(process: subprocess.Popen[bytes], outgoing: queue.Queue[list[bytes] | None]) -> None:
        while (pieces := outgoing.get()) is not None:
            try:
                protocol.send(process.stdin, pieces)  # type: ignore[arg-type]
            except (OSError, ValueError):  # the reader thread notices the death and says so
                return

    @staticmethod
    def _read(process: subprocess.Popen[bytes], incoming: queue.Queue[Any], log: threading.Thread) -> None:
        reader = protocol.Reader(process.stdout)  # type: ignore[arg-type]
        while True:
            try:
                message = reader.read()
            except protocol.ProtocolError:
                continue
            except (OSError, ValueError):
                message = None
            if message is None:
                log.join(KILL_AFTER)  # the last words belong into the sentence about the death
                incoming.put((process.pid, None))
                return
            incoming.put((process.pid, message))

    def _read_log(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stderr or ():
            self._log.append(line.decode("utf-8", "replace").rstrip())

    def _dispatch(self) -> None:
        while True:
            try:
                pid, message = self._incoming.get_nowait()
            except queue.Empty:
                return
            if message is None:
                if self._process is not None and self._process.pid == pid:
                    self._reap()
                return
            header = message.header
            if header.get("event") == "hello":
                if header.get("protocol") != protocol.VERSION:
                    self.failure = (
                        f"The engine speaks protocol {header.get('protocol')}, this extension {protocol.VERSION}; "
                        "install the extension again and restart Blender."
                    )
                    self.kill()
                    return
                self.hello = header
            elif header.get("kind") == "runtime":
                self.failure = f"{header.get('message')} Choose another Python in the preferences of this extension."
            elif (call := self._calls.get(header.get("id"))) is not None:  # type: ignore[arg-type]
                call._hear(header, message.arrays)

    def _fail_calls(self, status: int | None) -> None:
        words = [line for line in self._log if line.strip()][-3:]
        log = f" Its last words: {' / '.join(words)}" if words else ""
        if self.failure:
            sentence = self.failure
        elif self.hello is None:
            sentence = self.failure = (
                f"The engine did not start with {self.command[0]} (exit status {status}). "
                f"Choose another Python in the preferences of this extension.{log}"
            )
        else:
            sentence = f"The engine stopped unexpectedly (exit status {status}); run again, it restarts itself.{log}"
        for call in list(self._calls.values()):
            cancelled = call.cancelling
            call._end(CallCancelledError("Cancelled; nothing was changed.") if cancelled else WorkerError(sentence))
