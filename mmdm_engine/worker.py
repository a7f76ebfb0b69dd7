"""The engine as a process of its own: requests on stdin, answers on stdout, log on stderr.

A reader thread takes requests apart and hears ``cancel`` while the main thread computes. What a request may ask for is
listed in ``METHODS``; the wire format is in `contract.protocol`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .contract import Motion, MotionError, protocol
from .contract.protocol import Message, ProtocolError
from .cores import core_count, spare_the_cores

LEAST_PYTHON = (3, 11)
REQUIREMENTS = ("scipy", "safetensors", "array_api_compat", "torch")
"""Missing ones are named before the first request rather than in the middle of one."""

PROGRESS_INTERVAL = 0.05
GRACE_AFTER_STREAM_END = 2.0
"""Seconds a computation may run on once nobody listens any more."""


class Cancelled(BaseException):
    """The client no longer wants the answer. No `Exception`, so that no handler on the way swallows it."""


Progress = Callable[[int, int], None]
Answer = tuple[dict[str, Any], dict[str, np.ndarray]]


def _options(message: Message, *names: str) -> dict[str, Any]:
    params = message.header.get("params", {})
    return {name: params[name] for name in names if name in params}


def _span(message: Message) -> tuple[int, int]:
    params = message.header.get("params", {})
    try:
        return int(params["start"]), int(params["stop"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("The request needs whole numbers for start and stop.") from error


def _motion(message: Message) -> Motion:
    try:
        return protocol.motion_from(message.arrays, message.header["params"]["fps"])
    except (KeyError, TypeError) as error:
        raise ProtocolError(f"The request lacks a part of the motion ({error}).") from error


def _fill_gap(engine: Any, message: Message, progress: Progress) -> Answer:
    """Arrays: a motion; optionally ``keep`` (frame indices or (T, 22) bool) and ``joints`` (22,) bool."""
    options = _options(message, "takes", "seed", "steps", "label", "blend", "one_sided", "lock_feet", "prior", "device")
    options |= {name: message.arrays[name] for name in ("keep", "joints") if name in message.arrays}
    takes = engine.fill_gap(_motion(message), *_span(message), progress=progress, **options)
    return {}, {
        "rotations": np.stack([take.rotations for take in takes]),
        "root": np.stack([take.root for take in takes]),
    }


def _trial(engine: Any, message: Message, progress: Progress) -> Answer:
    """Arrays as for ``fill_gap``. The answer is in the header: the figures, and a sentence for the panel."""
    options = _options(message, "label", "prior", "device")
    options |= {name: message.arrays[name] for name in ("keep", "joints") if name in message.arrays}
    return engine.trial(_motion(message), *_span(message), progress=progress, **options).report(), {}


def _refine(engine: Any, message: Message, progress: Progress) -> Answer:
    """Arrays: a motion; optionally ``confidence`` and ``captured`` (T, 22), ``joints`` (22,) bool."""
    options = _options(message, "strength", "lock_feet", "prior", "device")
    options |= {name: message.arrays[name] for name in ("confidence", "captured", "joints") if name in message.arrays}
    clean = engine.refine(_motion(message), *_span(message), progress=progress, **options)
    return {}, {"rotations": clean.rotations, "root": clean.root}


def _complete(engine: Any, message: Message, progress: Progress) -> Answer:
    """Arrays: a motion, ``mask`` (T, 22) bool; optionally ``root_mask`` (T,) bool."""
    options = _options(message, "seed", "steps", "label", "lock_feet", "prior", "device")
    options |= {name: message.arrays[name] for name in ("root_mask",) if name in message.arrays}
    if "mask" not in message.arrays:
        raise ProtocolError("The request lacks the mask of what is to be generated.")
    whole = engine.complete(_motion(message), message.arrays["mask"], progress=progress, **options)
    return {}, {"rotations": whole.rotations, "root": whole.root}


def _detect(engine: Any, message: Message, _: Progress) -> Answer:
    """Arrays: a motion. Answer: ``problems`` in the header, ``confidence`` (T, 22)."""
    found = engine.detect(_motion(message))
    return {"problems": [asdict(problem) for problem in found.problems]}, {"confidence": found.confidence}


def _capture(_: Any, message: Message, progress: Progress) -> Answer:
    """Params: ``calibration`` and ``detections`` (paths, the latter "" for beside the former), ``fps``; optionally
    ``scale``, ``up``, ``filter`` (bool). Answer: `capture.files.summary` in the header; for each of its people, under
    ``NAME/``, the arrays of a motion and ``confidence`` (T, 22).
    """
    from .capture import bones, cameras, clean, detections, files, pipeline

    params = message.header.get("params", {})
    try:
        calibration, folder, fps = Path(params["calibration"]), params["detections"], float(params["fps"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("The request needs paths of calibration and detections, and a frame rate.") from error
    rig = cameras.load(calibration, **_options(message, "scale", "up"))
    names = [camera.name for camera in rig]
    recording = detections.find(folder or detections.beside(calibration, names), names)
    progress(0, len(recording.frames))
    priors = clean.Priors(refinement=clean.FILTER if params.get("filter", True) else None)
    capture = pipeline.capture(rig, recording, fps, priors=priors, progress=progress)
    about = files.summary(capture)
    arrays: dict[str, np.ndarray] = {}
    for entry, person in zip(about["people"], capture.people, strict=True):
        motion = protocol.motion_arrays(bones.armature(person, capture.fps))
        parts = motion | {"confidence": bones.confidence(person)}
        arrays |= {f"{entry['name']}/{name}": values for name, values in parts.items()}
    return about, arrays


METHODS: dict[str, Callable[[Any, Message, Progress], Answer]] = {
    "fill_gap": _fill_gap,
    "trial": _trial,
    "refine": _refine,
    "complete": _complete,
    "detect": _detect,
    "capture": _capture,
}
"""What is computed, one request at a time. ``ping``, ``cancel`` and ``shutdown`` are answered at once."""


class Worker:
    """One client's engine.

    Loaded priors stay in this process's memory between requests.
    """

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._reader = protocol.Reader(source)
        self._sink = sink
        self._lock = threading.Lock()
        self._held: list[tuple[dict[str, Any], dict[str, np.ndarray] | None]] | None = []
        self._waiting: queue.Queue[Message | None] = queue.Queue()
        self._known: set[Any] = set()
        self._cancelled: set[Any] = set()
        self._closing = threading.Event()

    def listen(self) -> None:
        """Start taking requests in; answers are held back until `serve`."""
        threading.Thread(target=self._listen, name="mmdm-requests", daemon=True).start()

    def serve(self, engine: Any, hello: dict[str, Any]) -> None:
        """Greet, then answer requests until the client shuts down or its end of the stream closes.

        engine: where the functions of the public API are looked up.
        """
        with self._lock:
            held, self._held = self._held, None
        self._send({"event": "hello", "protocol": protocol.VERSION, **hello})
        for header, arrays in held or []:
            self._send(header, arrays)
        while (message := self._waiting.get()) is not None and not self._closing.is_set():
            self._answer(engine, message)

    def _send(self, header: dict[str, Any], arrays: dict[str, np.ndarray] | None = None) -> None:
        with self._lock:
            if self._held is not None:
                self._held.append((header, arrays))
                return
            try:
                protocol.write(self._sink, header, arrays)
            except OSError:  # the client is gone; the end of its stream ends this process
                self._closing.set()

    def _error(self, id: Any, kind: str, text: str) -> None:
        self._send({"id": id, "event": "error", "kind": kind, "message": text})

    def _listen(self) -> None:
        while True:
            try:
                message = self._reader.read()
            except ProtocolError as error:
                self._error(error.id, "protocol", str(error))
                continue
            except OSError:
                message = None
            if message is None or message.header.get("method") == "shutdown":
                self._closing.set()
                self._waiting.put(None)
                if message is None:
                    # a computation that reports no progress must not outlive the program that asked for it
                    end = threading.Timer(GRACE_AFTER_STREAM_END, os._exit, (0,))
                    end.daemon = True
                    end.start()
                return
            self._accept(message)

    def _accept(self, message: Message) -> None:
        id, method, params = (message.header.get(key) for key in ("id", "method", "params"))
        if params is not None and not isinstance(params, dict):
            self._error(id, "protocol", "The params of a request must be an object.")
        elif not isinstance(id, int | str | None):
            self._error(None, "protocol", "The id of a request must be a number or a text.")
        elif method == "ping":
            self._send({"id": id, "event": "result"})
        elif method == "cancel":
            wanted = (params or {}).get("id")
            if isinstance(wanted, int | str) and wanted in self._known:
                self._cancelled.add(wanted)
        elif isinstance(method, str) and method in METHODS:
            self._known.add(id)
            self._waiting.put(message)
        else:
            self._error(id, "protocol", f"The engine has no method {method!r}.")

    def _answer(self, engine: Any, message: Message) -> None:
        id, method = message.header.get("id"), message.header["method"]
        started = time.monotonic()
        try:
            self._stop_if_unwanted(id)
            header, arrays = METHODS[method](engine, message, self._reporter(id, started))
        except Cancelled:
            self._error(id, "cancelled", "Cancelled.")
        except ProtocolError as error:
            self._error(id, "protocol", str(error))
        except MotionError as error:
            self._error(id, "motion", str(error))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
                self._error(id, "motion", "There is not enough memory for this range; work on a shorter one.")
            else:
                self._error(id, "internal", f"The engine failed unexpectedly ({type(error).__name__}: {error}).")
        else:
            self._send({"id": id, "event": "result", "seconds": time.monotonic() - started, **header}, arrays)
        finally:
            self._known.discard(id)
            self._cancelled.discard(id)

    def _stop_if_unwanted(self, id: Any) -> None:
        if id in self._cancelled or self._closing.is_set():
            raise Cancelled

    def _reporter(self, id: Any, started: float) -> Progress:
        last = 0.0

        def progress(done: int, of: int) -> None:
            nonlocal last
            self._stop_if_unwanted(id)
            now = time.monotonic()
            if now - last < PROGRESS_INTERVAL and done < of:
                return
            last = now
            left = (now - started) / done * (of - done) if done > 0 else None
            self._send({"id": id, "event": "progress", "done": int(done), "of": int(of), "seconds_left": left})

        return progress


def _reserve_streams() -> tuple[BinaryIO, BinaryIO]:
    """The real stdin and stdout for the protocol; what anything else prints there goes to stderr."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return source, sink


def describe(threads: int) -> dict[str, Any]:
    """What the hello tells: versions, devices (best first), priors. Imports what the engine needs; limits threads.

    threads: at most so many; 0 = one per core. ``OMP_NUM_THREADS`` still lowers it.
    """
    for name in REQUIREMENTS:
        importlib.import_module(name)
    import torch

    from .priors.store import shipped

    torch.set_num_threads(min(threads or core_count(), max(1, torch.get_num_threads())))
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    names = [torch.cuda.get_device_name(i) for i in range(len(devices))]
    if torch.backends.mps.is_available():
        devices.append("mps")
        names.append("Apple GPU")
    return {
        "engine": str(Path(__file__).resolve().parent),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "devices": [*devices, "cpu"],
        "device_names": [*names, platform.processor() or platform.machine()],
        "threads": torch.get_num_threads(),
        "priors": shipped(),
        "methods": sorted(METHODS),
    }


def serve(threads: int = 0, engine: Any = None) -> int:
    """Be the worker until the client goes; the exit status.

    engine: an object with the public functions of ``mmdm_engine``; None = that package.
    """
    source, sink = _reserve_streams()
    worker = Worker(source, sink)
    worker.listen()
    try:
        if sys.version_info < LEAST_PYTHON:
            raise ImportError(f"Python {LEAST_PYTHON[0]}.{LEAST_PYTHON[1]} or newer is needed")
        hello = describe(threads)
        engine = engine or importlib.import_module(__package__)
    except ImportError as error:
        text = f"Python {platform.python_version()} at {sys.executable} cannot run the engine: {error}."
        print(text, file=sys.stderr)
        protocol.write(sink, {"event": "error", "id": None, "kind": "runtime", "message": text})
        return 3
    worker.serve(engine, hello)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m mmdm_engine worker``."""
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads at most (default: one per core)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Entry of the command line; the exit status."""
    return serve(arguments.threads)


def main(argv: list[str] | None = None) -> int:
    """Entry of ``python -m mmdm_engine.worker``."""
    parser = argparse.ArgumentParser(
        prog="python -m mmdm_engine worker",
        description="Serve the engine to Blender over stdin and stdout. Not meant to be typed by hand.",
    )
    add_arguments(parser)
    spare_the_cores()
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
