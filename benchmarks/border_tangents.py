"""What the border tangents buy: the same in-betweening network, seed and steps, with them and with zeros instead.

    python benchmarks/border_tangents.py --data train.npz [--steps 100] [--threads 1] [--json]

Prints the error on held-out clips of the pack, 30 frames at 30 fps, in ratio to interpolation.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout that is not installed

import torch

from mmdm_engine.evaluate import machine
from mmdm_engine.model.config import ENCODERS, to_dict
from mmdm_engine.pack import Pack
from mmdm_engine.priors import border
from mmdm_engine.training import losses
from mmdm_engine.training.clips import Clips
from mmdm_engine.training.loop import Recipe
from mmdm_engine.training.tasks import InbetweenTask


def train(clips: Clips, held_out: Clips, steps: int) -> dict[str, float]:
    """A short training from nothing; the ratios it reaches."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    task = InbetweenTask({"kaa": to_dict(ENCODERS["product"])})
    task.prepare(clips, generator, batches=60)
    rate = Recipe().learning_rate
    optimizer = torch.optim.AdamW(task.parameters(), rate, betas=(0.9, 0.98))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 20)
        loss = losses.total(task(*task.draw(clips, 2048, generator), generator), task.weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    return task.score(held_out, torch.Generator().manual_seed(1))


def main() -> int:
    """Train both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PACK.npz")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    pack = Pack.load(args.data)
    clips, held_out = Clips.split(pack, "cpu")
    with_them = train(clips, held_out, args.steps)
    true = border.tangents
    with mock.patch.object(border, "tangents", lambda *given: torch.zeros_like(true(*given))):
        without = train(clips, held_out, args.steps)
    report = {
        "steps": args.steps, "data": args.data.name, "with": with_them, "without": without, "machine": machine(),
        "date": date.today().isoformat(),
    }  # fmt: skip
    if args.json:
        print(json.dumps(report))
        return 0
    for name in ("with", "without"):
        print(f"{name:8} position {report[name]['position']:.3f}  angle {report[name]['angle']:.3f}")
    print(f"{args.steps} steps · {report['data']} · {report['machine']} · {report['date']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
