"""Arms and legs that a capture has lost: they hang still in their parent while the body moves on."""

from __future__ import annotations

import numpy as np

from ..engine_link import INDEX, Motion
from ..engine_link import rotations as rot

LIMBS = {
    f"{side} {limb}": tuple(INDEX[f"{side}_{joint}"] for joint in joints)
    for side in ("left", "right")
    for limb, joints in (("arm", ("shoulder", "elbow", "wrist")), ("leg", ("hip", "knee", "ankle", "foot")))
}
"""Their joints, from the body outwards. Lost is a limb whose first two joints do not turn."""
STILL = 1e-5
"""Radians per frame; a captured joint is never so still."""
MOVING = np.radians(5.0)
"""Radians per second, the mean of the other limbs' joints."""
SHORTEST = 0.5
"""Seconds."""


def find(motion: Motion) -> tuple[np.ndarray, list[dict[str, object]]]:
    """(T, 22) bool of what is lost, and the same in words: limb, start and stop as array indices."""
    mask = np.zeros((len(motion), 22), bool)
    words: list[dict[str, object]] = []
    if len(motion) < 3:
        return mask, words
    q = motion.rotations.astype(np.float64)
    speed = rot.angle(q[1:], q[:-1])
    upper = {name: list(joints[:2]) for name, joints in LIMBS.items() if motion.skeleton.exists[list(joints)].all()}
    for name, joints in upper.items():
        others = [j for other, pair in upper.items() if other != name for j in pair]
        if not others:
            continue
        reach = max(1, round(motion.fps))
        busy = np.convolve(speed[:, others].mean(axis=1) * motion.fps, np.ones(reach) / reach, "same") > MOVING
        still = (speed[:, joints] < STILL).all(axis=1) & busy
        edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]])))
        for a, b in zip(edges[::2], edges[1::2], strict=True):
            if b - a + 1 >= SHORTEST * motion.fps:
                # the first frame of a hold inside the take is still a good one
                start = int(a) + (1 if a > 0 else 0)
                mask[start : b + 1, list(LIMBS[name])] = True
                words.append({"limb": name, "start": start, "stop": int(b) + 1})
    return mask, words
