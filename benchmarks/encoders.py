"""How fast the encoder variants are at equal sizes, side by side in one process: the speeds of the paper's Table VI.

    python benchmarks/encoders.py [--size inbetween_paper] [--threads 1] [--json]

Every variant is made of the same block class with the same widths, heads and rounds, and reads the same windows of
65 frames × 22 joints. The variants take turns, repetition by repetition, and medians are compared, so that another
program on the machine slows all of them alike. Only the aggregator is timed; embedding and read-out are the same for
all. FLOPs are counted by torch's own counter, two for a multiplication with its addition, attention included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from mmdm_engine import MotionError  # noqa: E402
from mmdm_engine.evaluate import machine  # noqa: E402
from mmdm_engine.model.config import ENCODERS, MASKED, KAAConfig, Variant  # noqa: E402
from mmdm_engine.model.kaa import KAA  # noqa: E402
from mmdm_engine.priors.network import parameters  # noqa: E402
from mmdm_engine.priors.store import choose_device  # noqa: E402

FRAMES, JOINTS = 65, 22
VARIANTS: tuple[Variant, ...] = ("s", "t", "s_t", "kaa_t", "kaa")
NAMES = {"s": "S", "t": "T", "s_t": "S&T", "kaa_t": "KAA trajectory-first", "kaa": "KAA"}
BAR, FAIR = 1.6, 0.8
"""KAA's frames per second over S&T's, and the share of KAA's FLOP/s that S&T must reach for that to mean anything."""
SIZES: dict[str, KAAConfig] = {
    **{name: kaa for name, kaa in ENCODERS.items() if kaa.joint_dim == kaa.pose_dim},
    **{name: config.kaa for name, config in MASKED.items()},
}
"""Sizes whose pose token is as wide as its joint tokens: only there do all variants have equal blocks."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Inputs:
    """What an aggregator reads. tokens (B, T, J, D), seconds (B, T), frame_step (B,), step (B,)."""

    tokens: Tensor
    seconds: Tensor
    frame_step: Tensor
    step: Tensor

    @classmethod
    def make(cls, batch: int, frames: int, dim: int, device: str) -> Inputs:
        """Random tokens: time does not depend on what they say."""
        tokens = torch.randn((batch, frames, JOINTS, dim), generator=torch.Generator().manual_seed(0))
        seconds = ((torch.arange(frames) - (frames - 1) / 2) / 30).expand(batch, frames)
        step = torch.full((batch,), 1 / 30)
        return cls(tokens.to(device), seconds.to(device), step.to(device), torch.zeros(batch).long().to(device))

    def tensors(self) -> list[Tensor]:
        """All four."""
        return [self.tokens, self.seconds, self.frame_step, self.step]


class PeakMemory(TorchDispatchMode):
    """Bytes of all tensors that operations make, at the moment when most of them are alive at once.

    What an operation allocates and frees within itself is not seen. known: tensors that were there before.
    """

    def __init__(self, known: list[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and take note of what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def flops(run: Callable[[], object]) -> int:
    """Multiplications and additions of one call.

    Attention is taken apart into matrix products while counting: the counter does not know the CPU's fused kernel.
    """
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def peak_activations(module: nn.Module, inputs: Inputs, run: Callable[[], object]) -> int:
    """Bytes that one call without gradients holds at most, beyond weights and inputs."""
    known = [*module.parameters(), *module.buffers(), *inputs.tensors()]
    with torch.no_grad(), PeakMemory(known) as memory:
        run()
    return memory.peak


def measure(
    size: str | KAAConfig,
    *,
    batch: int = 1,
    frames: int = FRAMES,
    repeats: int = 9,
    device: str = "cpu",
    dtype: str = "float32",
    compiled: bool = False,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> list[dict[str, Any]]:
    """One row of figures per variant."""
    base = SIZES[size] if isinstance(size, str) else size
    inputs = Inputs.make(batch, frames, base.joint_dim, device)
    rows: dict[Variant, dict[str, Any]] = {}
    runs: dict[Variant, Callable[[], object]] = {}
    for variant in VARIANTS:
        torch.manual_seed(0)
        network = KAA(replace(base, variant=variant), JOINTS).to(device).eval()

        def run(network: KAA = network) -> object:
            with torch.autocast(torch.device(device).type, DTYPES[dtype], enabled=dtype != "float32"):
                return network(inputs.tokens, inputs.seconds, inputs.frame_step, inputs.step)

        rows[variant] = {
            "variant": variant,
            "gflop_per_frame": flops(run) / (batch * frames) / 1e9,
            "parameters": parameters(network),
            "peak_activations_mib": peak_activations(network, inputs, run) / 2**20,
        }
        if compiled:
            network.compile()
        runs[variant] = run

    seconds: dict[Variant, list[float]] = {variant: [] for variant in VARIANTS}
    with torch.inference_mode():
        for warm in runs.values():  # compile, choose kernels, fill caches
            warm()
            warm()
        for repeat in range(repeats):
            turn = repeat % len(VARIANTS)
            for variant in (*VARIANTS[turn:], *VARIANTS[:turn]):
                seconds[variant].append(_timed(runs[variant], device))
            tick(repeat + 1, repeats)
    for name, row in rows.items():
        median = statistics.median(seconds[name])
        row["seconds"] = median
        row["seconds_min"], row["seconds_max"] = min(seconds[name]), max(seconds[name])
        row["frames_per_second"] = batch * frames / median
        row["gflop_per_second"] = row["gflop_per_frame"] * row["frames_per_second"]
    return list(rows.values())


def _timed(run: Callable[[], object], device: str) -> float:
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(torch.device(device).type)
    if wait:
        wait()
    begun = time.perf_counter()
    run()
    if wait:
        wait()
    return time.perf_counter() - begun


def verdict(rows: list[dict[str, Any]]) -> str:
    """What the bar says about KAA beside S&T, in one sentence."""
    by_name = {row["variant"]: row for row in rows}
    kaa, both = by_name["kaa"], by_name["s_t"]
    ratio = kaa["frames_per_second"] / both["frames_per_second"]
    rate = both["gflop_per_second"] / kaa["gflop_per_second"]
    text = f"KAA does {ratio:.2f} × the frames per second of S&T; S&T runs at {rate:.2f} of KAA's FLOP/s"
    if rate < FAIR:
        return f"{text}: below {FAIR}, so the comparison is void."
    return f"{text}: the bar of {BAR} is {'met' if ratio >= BAR else 'missed'}."


def main() -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="inbetween_paper", help="default %(default)s (512, 8 rounds)")
    parser.add_argument("--batch", type=int, default=1, help="windows at once (default %(default)s)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of a window (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="repetitions of each variant (default %(default)s)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch chooses)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto (default %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default %(default)s")
    parser.add_argument("--compile", action="store_true", help="torch.compile every variant first")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        if min(args.batch, args.frames, args.repeats) < 1:
            raise MotionError("Batch, frames and repeats must be at least 1; choose larger numbers.")
        device = choose_device(args.device)
        rows = measure(
            args.size, batch=args.batch, frames=args.frames, repeats=args.repeats, device=device, dtype=args.dtype,
            compiled=args.compile,
            tick=lambda done, of: print(f"\r{done}/{of}", end="", file=sys.stderr, flush=True),
        )  # fmt: skip
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    about = {
        "size": args.size, "batch": args.batch, "frames": args.frames, "joints": JOINTS, "repeats": args.repeats,
        "device": torch.cuda.get_device_name() if device == "cuda" else device, "dtype": args.dtype,
        "compiled": args.compile, "threads": torch.get_num_threads(), "torch": torch.__version__, "machine": machine(),
        "date": date.today().isoformat(),
    }  # fmt: skip
    if args.json:
        print(json.dumps([{**row, **about} for row in rows]))
        return 0
    print(f"{'':22}{'frames/s':>10}{'GFLOP/frame':>13}{'GFLOP/s':>9}{'M params':>10}{'peak MiB':>10}")
    for row in rows:
        print(
            f"{NAMES[row['variant']]:22}{row['frames_per_second']:10.1f}{row['gflop_per_frame']:13.3f}"
            f"{row['gflop_per_second']:9.1f}{row['parameters'] / 1e6:10.2f}{row['peak_activations_mib']:10.1f}"
        )
    print(verdict(rows))
    print(
        f"{args.size}, {args.batch} × {args.frames} frames × {JOINTS} joints, {args.dtype}, median of {args.repeats} · "
        f"{about['device']}, {about['threads']} threads, torch {about['torch']} · {about['machine']} · {about['date']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
