"""How fast the engine is and how much memory it takes, measured as Blender meets it: through the worker process.

    python benchmarks/engine.py [--json] [--repeats 20] [--frames 600] [--prior …]

Prints the time of a warm 30-frame fill, the frames that are refined per second and the worker's peak memory. The motion
is made up here: time does not depend on what is moved. What is refined is shaken by 5° and 2 cm.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

from mmdm_engine import Motion, MotionError, Skeleton  # noqa: E402
from mmdm_engine import rotations as rot  # noqa: E402
from mmdm_engine.contract import protocol  # noqa: E402
from mmdm_engine.evaluate import add_noise, machine  # noqa: E402

FPS = 30.0
GAP = 30


def motion(frames: int) -> Motion:
    """Somebody who sways and waves about, with the jitter of a bad capture."""
    rng = np.random.default_rng(0)
    t = np.arange(frames)[:, None, None] / FPS
    turn = 0.3 * np.sin(t * rng.uniform(1, 4, (22, 3)) + rng.uniform(0, 6, (22, 3)))
    turn += rng.normal(scale=np.radians(5), size=turn.shape)
    offsets = np.zeros((22, 3))
    offsets[[1, 2]] = [[0.09, -0.06, 0], [-0.09, -0.06, 0]]
    offsets[[4, 5, 7, 8], 1] = -0.42
    offsets[[10, 11], 2] = 0.13
    offsets[[3, 6, 9, 12, 15], 1] = 0.12
    offsets[[13, 14]] = [[0.05, 0.08, 0], [-0.05, 0.08, 0]]
    offsets[[16, 18, 20], 0], offsets[[17, 19, 21], 0] = [0.1, 0.27, 0.25], [-0.1, -0.27, -0.25]
    root = np.concatenate([0.5 * t[:, 0], 0.95 + 0 * t[:, 0], np.sin(t[:, 0])], axis=-1)
    root = root + rng.normal(scale=0.02, size=root.shape)
    return Motion(rot.exp(turn), root, Skeleton(offsets), FPS)


class Worker:
    """The worker as a child process, one request at a time."""

    def __init__(self, threads: int) -> None:
        words = [sys.executable, "-m", "mmdm_engine", "worker", "--threads", str(threads)]
        self.process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.sink = self.process.stdin
        self.reader = protocol.Reader(self.process.stdout)
        self.hello = self._event().header

    def _event(self) -> protocol.Message:
        message = self.reader.read()
        if message is None:
            raise MotionError("The worker ended before it answered; run python -m mmdm_engine worker to see why.")
        if message.header.get("event") == "error":
            raise MotionError(message.header["message"])
        return message

    def ask(self, method: str, source: Motion, **params: Any) -> float:
        """Seconds from the request until the answer has been read."""
        begun = time.perf_counter()
        header = {"id": 1, "method": method, "params": {"fps": source.fps, **params}}
        protocol.write(self.sink, header, protocol.motion_arrays(source))
        while self._event().header["event"] != "result":
            pass
        return time.perf_counter() - begun

    def close(self) -> float:
        """End the worker; its peak resident memory in MiB."""
        self.sink.close()
        self.process.wait(timeout=30)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def measure(
    repeats: int, frames: int, threads: int, fill_prior: str | None, refine_prior: str | None
) -> dict[str, Any]:
    """All figures; times in seconds, memory in MiB."""
    options = [{"prior": name} if name else {} for name in (fill_prior, refine_prior)]
    begun = time.perf_counter()
    worker = Worker(threads)
    start = time.perf_counter() - begun
    try:
        short, long = motion(GAP + 90), add_noise(motion(frames), 0)  # of clean motion nothing would be refined
        gap = {"start": 45, "stop": 45 + GAP, **options[0]}
        whole = {"start": 0, "stop": frames, **options[1]}
        first = worker.ask("fill_gap", short, **gap)
        fills = [worker.ask("fill_gap", short, **gap) for _ in range(repeats)]
        worker.ask("refine", add_noise(motion(60), 0), start=0, stop=60, **options[1])
        refines = [worker.ask("refine", long, **whole) for _ in range(max(3, repeats // 5))]
    finally:
        peak = worker.close()
    return {
        "worker_start_s": start,
        "first_fill_s": first,
        "fill_30_frames_s": statistics.median(fills),
        "fill_30_frames_worst_s": max(fills),
        "refine_frames_per_s": frames / statistics.median(refines),
        "refine_frames": frames,
        "worker_peak_mib": peak,
        "device": worker.hello["devices"][0],
        "threads": worker.hello["threads"],
        "torch": worker.hello["torch"],
        "machine": machine(),
        "date": date.today().isoformat(),
    }


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="fills to time (default %(default)s)")
    parser.add_argument("--frames", type=int, default=600, help="length of the refined take (default %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the worker (default: one per core)")
    parser.add_argument("--fill-prior", help="another in-betweening prior, by name or path")
    parser.add_argument("--refine-prior", help="another refinement prior, by name or path")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    try:
        report = measure(max(1, args.repeats), max(60, args.frames), args.threads, args.fill_prior, args.refine_prior)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.json:
        json.dump(report, sys.stdout)
        sys.stdout.write("\n")
        return 0
    rows = [
        ("worker ready after", f"{report['worker_start_s']:.2f} s"),
        ("first 30-frame fill, weights loaded", f"{report['first_fill_s']:.2f} s"),
        ("warm 30-frame fill, median", f"{report['fill_30_frames_s']:.3f} s"),
        ("warm 30-frame fill, worst", f"{report['fill_30_frames_worst_s']:.3f} s"),
        (f"refined, take of {report['refine_frames']} frames", f"{report['refine_frames_per_s']:.0f} frames/s"),
        ("worker's peak memory", f"{report['worker_peak_mib']:.0f} MiB"),
    ]
    for name, value in rows:
        print(f"{name:<40}{value:>16}")
    device = f"{report['device']}, {report['threads']} threads, torch {report['torch']}"
    print(f"{device} · {report['machine']} · {report['date']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
