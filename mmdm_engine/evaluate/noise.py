"""Ways in which a capture is bad, put into clean motion: what refining is measured on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from .. import kinematics
from .. import rotations as rot
from ..contract import Motion, MotionError
from ..contract.skeleton import LIMBS

NOISE_DEGREES, NOISE_METRES = 5.0, 0.02
"""Per axis of the rotation vector, and of the root."""

Spoil = Callable[[Motion, int], Motion]
"""A motion and a seed → the same motion, captured badly."""


def add_noise(motion: Motion, seed: int, degrees: float = NOISE_DEGREES, metres: float = NOISE_METRES) -> Motion:
    """Jitter as in a bad capture: a normal rotation vector per joint and frame on the right, a normal root shift.

    degrees: per axis of the rotation vector. metres: per axis of the root.
    """
    rng = np.random.default_rng(seed)
    turn = rng.normal(scale=np.radians(degrees), size=(len(motion), 22, 3))
    return moved(motion, turn, rng.normal(scale=metres, size=(len(motion), 3)))


def shake_places(motion: Motion, seed: int, metres: float = 0.01) -> Motion:
    """Every joint is seen ``metres`` off per axis, and the bones are turned to lead there: short ones turn most."""
    rng = np.random.default_rng(seed)
    rotations, root = motion.rotations.astype(np.float64), motion.root.astype(np.float64)
    offsets = motion.skeleton.offsets.astype(np.float64)
    places = kinematics.positions(rotations, root, offsets)
    seen = places + rng.normal(scale=metres, size=places.shape)
    aimed, root = kinematics.aim(rotations, root, offsets, seen)
    return motion.with_frames(rot.continuous(aimed), root)


def shake_limb(motion: Motion, seed: int, degrees: float = NOISE_DEGREES) -> Motion:
    """One limb of a quiet body jitters."""
    rng = np.random.default_rng(seed)
    limb = list(LIMBS[rng.integers(len(LIMBS))])
    turn = np.zeros((len(motion), 22, 3))
    turn[:, limb] = rng.normal(scale=np.radians(degrees), size=(len(motion), len(limb), 3))
    return moved(motion, turn)


def add_spikes(motion: Motion, seed: int, degrees: float = 20.0, share: float = 0.01) -> Motion:
    """A share of all joints × frames is off by a normal rotation vector of ``degrees`` per axis, each on its own."""
    rng = np.random.default_rng(seed)
    hit = rng.random((len(motion), 22, 1)) < share
    return moved(motion, hit * rng.normal(scale=np.radians(degrees), size=(len(motion), 22, 3)))


def freeze(motion: Motion, seed: int, seconds: float = 0.2) -> Motion:
    """The whole body stands still for ``seconds`` about once a second, then jumps to where it should be."""
    rng = np.random.default_rng(seed)
    rotations, root = motion.rotations.copy(), motion.root.copy()
    length, second = max(1, round(seconds * motion.fps)), round(motion.fps)
    for begin in range(second // 2, len(motion) - second // 2, second):
        at = begin + int(rng.integers(0, second // 4))
        rotations[at : at + length], root[at : at + length] = rotations[at - 1], root[at - 1]
    return motion.with_frames(rotations, root)


def drift(motion: Motion, seed: int, degrees: float = 4.0, seconds: float = 1.0) -> Motion:
    """Joints wander: a first-order process of ``degrees`` per axis that forgets within ``seconds``."""
    rng = np.random.default_rng(seed)
    memory = np.exp(-1 / (seconds * motion.fps))
    turn = rng.normal(scale=np.radians(degrees), size=(len(motion), 22, 3))
    for i in range(1, len(motion)):
        turn[i] = memory * turn[i - 1] + np.sqrt(1 - memory**2) * turn[i]
    return moved(motion, turn)


def moved(motion: Motion, turn: np.ndarray, shift: np.ndarray | None = None) -> Motion:
    """Rotation vectors (T, 22, 3) on the right of the joints that exist, and root shifts (T, 3) metres."""
    turn = turn * motion.skeleton.exists[:, None]
    rotations = rot.continuous(rot.multiply(motion.rotations.astype(np.float64), rot.exp(turn)))
    return motion.with_frames(rotations, motion.root if shift is None else motion.root + shift)


CASES: Mapping[str, tuple[str, Spoil]] = {
    "root": ("root shaken by 2 cm", partial(add_noise, degrees=0.0)),
    "places": ("joints shaken by 1 cm, bones turned to follow", shake_places),
    "limb": ("one limb shaken by 5°", shake_limb),
    "spikes": ("spikes of 20° in one joint of a hundred", add_spikes),
    "frozen": ("frozen for 0.2 s every second", freeze),
    "drift": ("joints drift by 4°", drift),
}
"""By name, besides ``jitter`` whose size can be chosen: what it does, in words, and what does it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the capture suffers from."""
    parser.add_argument("--noise", type=float, default=NOISE_DEGREES, help="jitter, degrees per axis (%(default)s)")
    parser.add_argument("--root-noise", type=float, default=100 * NOISE_METRES, help="cm per axis (%(default)s)")
    parser.add_argument("--case", choices=list(CASES), help="instead of jitter in everything")


def chosen(args: argparse.Namespace) -> tuple[str, Spoil]:
    """What was asked for, in words and as a function. Raises `MotionError` for sizes below zero."""
    if args.case:
        return CASES[args.case]
    if args.noise < 0 or args.root_noise < 0:
        raise MotionError("Noise cannot be negative; give --noise and --root-noise of zero or more.")
    words = f"noise {args.noise:g}° and {args.root_noise:g} cm per axis"
    return words, partial(add_noise, degrees=args.noise, metres=args.root_noise / 100)
