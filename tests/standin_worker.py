"""A worker whose engine is a few lines: everything but the network is the real thing.

Run like the worker itself. ``fill_gap`` and ``complete`` interpolate, ``refine`` smooths, ``detect`` finds spikes; the
label (fill) or the prior's name asks for the behaviour that a test needs: ``slow``, ``die``, ``hang``, ``noise``,
``raise``, ``corrupt``.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict, dataclass

import numpy as np

from mmdm_engine import baselines
from mmdm_engine import rotations as rot
from mmdm_engine.contract import JOINTS, MotionError
from mmdm_engine.quality import Problem, Quality
from mmdm_engine.worker import serve


def _behave(how, progress):
    progress = progress or (lambda done, of: None)
    if how == "slow":
        for i in range(200):
            time.sleep(0.05)
            progress(i, 200)
    if how == "die":
        print("standin: dying now", file=sys.stderr, flush=True)
        os._exit(9)
    if how == "hang":
        progress(0, 10)
        time.sleep(1000)
    if how == "noise":
        print("a stray line on stdout")
        os.write(1, b"a stray line on the descriptor\n")
    if how == "raise":
        raise RuntimeError("standin: deliberate")
    if how == "corrupt":
        raise MotionError("The weights file inbetween.safetensors is damaged; install the add-on again.")
    progress(1, 2)
    progress(2, 2)


class Engine:
    """The public functions in the shape of ``mmdm_engine``."""

    def __init__(self):
        self.calls = 0

    def fill_gap(
        self, motion, start, stop, *, keep=None, joints=None, takes=1, seed=0, steps=None, label="",
        blend=None, one_sided=False, lock_feet=True, prior=None, device="auto", progress=None,
    ):  # fmt: skip
        self.calls += 1
        _behave(prior or label, progress)
        if not one_sided and (start <= 0 or stop >= len(motion)):
            raise MotionError("The gap needs a frame on each side.")
        wanted = np.ones(22, bool) if joints is None else joints
        observed = np.ones((len(motion), 23), bool)
        observed[start:stop] = ~np.append(wanted, wanted[0])
        if keep is not None:
            if keep.dtype == bool:
                observed |= np.concatenate([keep, keep[:, :1]], axis=1)
            else:
                observed[keep] = True
        motion.require_finite(observed)
        rotations, root = baselines.interpolate(np.nan_to_num(motion.rotations), np.nan_to_num(motion.root), observed)
        result = []
        for take in range(takes):
            bent = rot.multiply(rotations, rot.exp(np.full(3, 0.02 * (seed + take), np.float32)))
            result.append(
                motion.with_frames(
                    np.where(observed[:, :22, None], motion.rotations, bent if take else rotations).astype(np.float32),
                    np.where(observed[:, 22:], motion.root, root).astype(np.float32),
                )
            )
        return result

    def refine(
        self, motion, start=0, stop=None, *, joints=None, strength=1.0, confidence=None, lock_feet=True,
        prior=None, device="auto", progress=None,
    ):  # fmt: skip
        self.calls += 1
        _behave(prior, progress)
        motion.require_finite()
        stop = len(motion) if stop is None else stop
        padded = np.concatenate([motion.rotations[:1], motion.rotations, motion.rotations[-1:]]).astype(np.float64)
        smooth = rot.normalize(padded[:-2] + 2 * padded[1:-1] + padded[2:])
        inside = np.zeros((len(motion), 22, 1), bool)
        inside[start:stop] = (np.ones(22, bool) if joints is None else joints)[:, None]
        rotations = rot.slerp(motion.rotations.astype(np.float64), smooth, float(strength))
        return motion.with_frames(np.where(inside, rotations, motion.rotations).astype(np.float32), motion.root)

    def complete(
        self, motion, mask, *, root_mask=None, lock_feet=True, steps=None, seed=0, label="", prior=None,
        device="auto", progress=None,
    ):  # fmt: skip
        self.calls += 1
        _behave(prior or label, progress)
        observed = ~np.concatenate([mask, (mask[:, 0] if root_mask is None else root_mask)[:, None]], axis=1)
        motion.require_finite(observed)
        filled = baselines.interpolate(np.nan_to_num(motion.rotations), np.nan_to_num(motion.root), observed)
        return motion.with_frames(*filled)

    def detect(self, motion):
        self.calls += 1
        motion.require_finite()
        if len(motion) < 4:
            raise MotionError("Finding problems needs at least four frames; choose a longer take.")
        steps = rot.angle(motion.rotations[1:].astype(np.float64), motion.rotations[:-1].astype(np.float64))
        jumps = np.zeros((len(motion), 22), bool)
        jumps[1:-1] = (steps[1:] > 0.5) & (steps[:-1] > 0.5)
        problems = [
            Problem("pop", JOINTS[j], int(t), int(t) + 1, float(steps[t, j] / (steps[t, j] + 1)))
            for t, j in np.argwhere(jumps)
        ]
        return Quality(1 - jumps.astype(np.float32), tuple(problems))

    def trial(self, motion, start, stop, *, keep=None, joints=None, label="", prior=None, device="auto", progress=None):
        self.calls += 1
        _behave(prior or label, progress)
        good = np.isfinite(motion.rotations).all(axis=(1, 2))
        holes = int(good[:start].sum() + good[stop:].sum()) // (stop - start)
        open_sides = int(start == 0) + int(stop == len(motion))
        size = 0.1 * (stop - start) * (1 + open_sides)
        blend = 0.5 if stop - start > 20 else 0.0
        return Trial(start, stop, holes, size, 2 * size, blend)


@dataclass(frozen=True)
class Trial:
    """What ``trial`` answers, with its figures from the length of the gap."""

    start: int
    stop: int
    holes: int
    ours: float
    bezier: float
    blend: float
    towards: str = "bezier"

    def report(self):
        """As the real one's."""
        return {
            **asdict(self),
            "sentence": f"expected {self.ours:.1f} cm, Bézier {self.bezier:.1f} cm, {self.holes} holes",
        }


if __name__ == "__main__":
    sys.exit(serve(threads=1, engine=Engine()))
