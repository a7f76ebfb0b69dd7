"""What it is worth to look at what the take does elsewhere, and how far that is to be trusted.

    python benchmarks/recall.py --data val.npz [--gaps 5,15,30,45] [--windows 400] [--lost body|limb] [--json]
    python benchmarks/recall.py --data train.npz --fit     prints `TRUST` of priors/recall.py, from people kept apart

Gaps in whole clips. Beside interpolation: the passages' network alone, the recalled passages alone, and both. L2-P and
L2-Q of the body at a dozen places in each gap, as ratios; fifths go from gaps whose like the clip shows to those whose
like it does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from torch import Tensor  # noqa: E402

from mmdm_engine import MotionError  # noqa: E402
from mmdm_engine.contract.skeleton import LIMBS  # noqa: E402
from mmdm_engine.evaluate import Window, cut, machine  # noqa: E402
from mmdm_engine.evaluate.entry import numbers  # noqa: E402
from mmdm_engine.pack import Pack, resample  # noqa: E402
from mmdm_engine.priors import store  # noqa: E402
from mmdm_engine.priors.passage import AROUND, PassageNetwork, Passages, at_frames, channels, even_places  # noqa: E402
from mmdm_engine.priors.recall import Memory, Recalled  # noqa: E402
from mmdm_engine.training.clips import held_out_clips  # noqa: E402

FPS = 30.0
CONTEXT = 12
"""Frames on each side of a gap that a window has at least."""
FIT_GAPS = (5, 10, 15, 30, 45, 90)
STEPS = 800
LOST = {"body": "inbetween", "limb": "completion"}
"""What is lost, and the prior that makes it up."""


@dataclass(frozen=True)
class Case:
    """One gap: what the network says, what the take does elsewhere, what is true; residuals (P, 69).

    size (69,) and lost (23,) of the gap. errors: of a residual, L2-P and L2-Q.
    """

    said: Tensor
    recalled: Recalled
    true: Tensor
    size: Tensor
    seconds: Tensor
    lost: Tensor
    errors: Callable[[Tensor], tuple[float, float]]


def cases(
    network: PassageNetwork, pack: Pack, windows: Sequence[Window], frames: int, limbs: bool, strange: bool = False
) -> list[Case]:
    """The windows' gaps of which the rest of their clip shows the like; with ``limbs``, one limb is lost in each.

    strange: as well with the clip before in the place of their own, in which there may be nothing like it.
    """
    out, memory, other, clip = [], None, None, -1
    places = even_places()
    phase = places[::2]
    for i, window in enumerate(windows):
        start, seconds = window.start + CONTEXT - 1, torch.tensor([(frames + 1) / FPS])
        if window.clip != clip:
            other, clip, motion = memory, window.clip, resample(pack.decode(window.clip), FPS)
            memory = Memory.of(motion, np.zeros(len(motion), bool))
        if memory is None:
            continue
        lag = torch.tensor(AROUND) * FPS
        times = torch.cat([start - lag, start + frames + 1 + lag, start + (frames + 1) * torch.cat([places, phase])])
        rotations, root = at_frames(memory.rotations, memory.root, torch.zeros(1, dtype=torch.long), times[None])
        lost = torch.ones(1, 23, dtype=torch.bool)
        if limbs:
            lost[:] = False
            lost[0, list(LIMBS[i % len(LIMBS)])] = True
        around, inside = 2 * len(AROUND), 2 * len(AROUND) + len(places)
        passages = Passages(
            rotations[:, :around].unflatten(1, (2, -1)), root[:, :around].unflatten(1, (2, -1)),
            torch.ones(1, 2, len(AROUND)), seconds, memory.bodies, ~lost,
            (rotations[:, around:inside], root[:, around:inside]) if limbs else None,
        )  # fmt: skip
        reading, features = network.read(passages)
        true = reading.frame.enter(rotations[:, inside:], root[:, inside:])
        residual = network.residual(reading, *true, phase[None])[0]
        said = network.state(reading, network(reading, features), phase[None])[0]

        def errors(state: Tensor, reading=reading, true=true, residual=residual, lost=lost) -> tuple[float, float]:
            state = torch.where(channels(lost), state, residual)[None]
            q, hips = network.departed(reading, state, phase[None])
            apart = (reading.frame.positions(q, hips) - reading.frame.positions(*true)).square().sum(dim=(-1, -2))
            sign = torch.where((q * true[0]).sum(dim=-1, keepdim=True) < 0, -1.0, 1.0)
            turned = (sign * q - true[0]).square().sum(dim=(-1, -2))
            return float(apart.sqrt().mean()), float(turned.sqrt().mean())

        for take in (memory.without(start + 1, start + 1 + frames), other if strange else None):
            found = take and take.recall(network, passages, 0, phase)
            if found:
                out.append(Case(said, found, residual, reading.size[0], seconds[0], lost[0], errors))
    return out


def mixed(case: Case) -> Tensor:
    """What the prior says in the end."""
    return case.recalled.drawn(case.said, case.size, case.seconds)


def figures(found: Sequence[Case]) -> dict[str, Any]:
    """Ratios to interpolation, overall and by fifths of likeness."""
    ways = {
        "interpolation": lambda c: torch.zeros_like(c.said), "network": lambda c: c.said,
        "recalled": lambda c: c.recalled.state, "both": mixed,
    }  # fmt: skip
    errors = {name: np.array([c.errors(way(c)) for c in found]) for name, way in ways.items()}
    order = np.argsort([float(c.recalled.unlike) for c in found])

    def ratios(rows: np.ndarray) -> dict[str, list[float]]:
        base = errors["interpolation"][rows].sum(axis=0)
        return {name: (errors[name][rows].sum(axis=0) / base).tolist() for name in list(ways)[1:]}

    return {
        "gaps": len(found), "all": ratios(order),
        "fifths": [ratios(part) for part in np.array_split(order, 5)] if len(order) >= 5 else [],
    }  # fmt: skip


def fit(found: Sequence[Case]) -> list[float]:
    """Weights of the evidence for which the mixed residuals are nearest to the true ones, in their usual sizes."""
    evidence = torch.stack([c.recalled.evidence(c.said, c.size, c.seconds) for c in found])
    said, elsewhere, true = (
        torch.stack([x / c.size for c, x in zip(found, each, strict=True)])
        for each in ([c.said for c in found], [c.recalled.state for c in found], [c.true for c in found])
    )
    lost = torch.stack([c.lost for c in found])
    free = torch.zeros(evidence.shape[-1], requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(STEPS):
        weights = torch.cat([free[:1], -free[1:2].exp(), free[2:]])  # the less alike, the less, however far that goes
        trust = channels(torch.sigmoid(evidence @ weights))[:, None]
        off = (torch.lerp(said, elsewhere, trust) - true).square().unflatten(-1, (23, 3)).sum(dim=-1).mean(dim=1)
        loss = (off + 1e-3).sqrt()[lost].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [round(w, 3) for w in weights.tolist()]


def main() -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz")
    parser.add_argument("--gaps", default="5,15,30,45", help="frames at 30 a second (default %(default)s)")
    parser.add_argument("--windows", type=int, default=400)
    parser.add_argument("--lost", choices=tuple(LOST), default="body")
    parser.add_argument("--fit", action="store_true", help="fit how far to trust what is recalled")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    try:
        pack = Pack.load(args.data)
        apart = held_out_clips(pack)
        gaps = FIT_GAPS if args.fit else numbers(args.gaps, "--gaps")
        found = {}
        for lost in LOST if args.fit else (args.lost,):
            kind = LOST[lost]
            network = store.load(kind, kind, "cpu").passage
            for frames in gaps:
                count = args.windows * (round(1 / apart.mean()) if args.fit else 1)
                windows = cut(pack, FPS, frames + 2 * CONTEXT, count)
                windows = [w for w in windows if apart[w.clip]] if args.fit else windows
                with torch.inference_mode():
                    found[lost, frames] = cases(network, pack, windows, frames, lost == "limb", args.fit)
    except MotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.fit:
        trust = fit([case for each in found.values() for case in each])
        print(json.dumps(trust) if args.json else f"TRUST = {tuple(trust)}")
        return 0
    with torch.inference_mode():
        report = {
            "data": args.data.name, "lost": args.lost, "date": date.today().isoformat(), "machine": machine(),
            "gaps": {frames: figures(each) for (_, frames), each in found.items()},
        }  # fmt: skip
    if args.json:
        print(json.dumps(report, indent=1))
        return 0
    console = Console()
    for frames, each in report["gaps"].items():
        table = Table(title=f"{args.lost} lost for {frames} frames: {each['gaps']} gaps of {args.data.name}")
        for head in ("gaps", "network L2-P", "L2-Q", "recalled L2-P", "L2-Q", "both L2-P", "L2-Q"):
            table.add_column(head, justify="right")
        for name, part in [("all", each["all"]), *((f"fifth {k + 1}", q) for k, q in enumerate(each["fifths"]))]:
            table.add_row(name, *(f"{x:.3f}" for way in ("network", "recalled", "both") for x in part[way]))
        console.print(table)
    console.print(f"{report['machine']}, {report['date']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
