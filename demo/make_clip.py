"""Bake the demo clip: our own key poses, in-betweened by the shipped prior, as a BVH file.

    scripts/make_demo_clip [--out demo/walk_turn_wave.bvh] [--prior NAME|PATH]

The words of ``key_poses.json``, all angles in degrees:

legs, seen from a body that faces its ``heading``: swing (thigh forwards), knee (bend), foot (toes up against the
    floor), spread (thigh outwards), out (toes outwards)
arms, hanging from the chest: swing (forwards), lower (down from the T-pose), elbow (bend), twist (turns the way the
    elbow bends, from forwards to up) · collar: raise · wrist: tilt (sideways)
pelvis, spine, neck, head: bend (forwards), side (to the left), twist (in a pose: positive brings the front leg's side
    forwards; in ``set``: to the left), list (the back leg's hip drops)

Nobody says where the body is: the supporting foot stands where it came down, rolling over heel and ball, and all else
follows from that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mmdm_engine as mmdm
from mmdm_engine import contacts, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.baselines import Filter
from mmdm_engine.contract.skeleton import INDEX

HERE = Path(__file__).resolve().parent
OUT = HERE / "walk_turn_wave.bvh"
SIDES = {"left": 1.0, "right": -1.0}
ROUNDING = Filter("gaussian", {"sigma": 0.045}, {"sigma": 0.045})
"""Takes the corners off poses that were authored one by one; seconds."""


def turn(axis: str, degrees: float) -> np.ndarray:
    """(4,) rotation about a main axis."""
    vector = np.zeros(3)
    vector["xyz".index(axis)] = np.radians(degrees)
    return rot.exp(vector)


def chain(*turns: np.ndarray) -> np.ndarray:
    """(4,) the product of rotations; the last one is applied first."""
    out = np.array(rot.IDENTITY)
    for q in turns:
        out = rot.multiply(out, q)
    return out


def skeleton(sheet: Mapping[str, Any]) -> mmdm.Skeleton:
    """Both sides from the left one."""
    offsets = np.zeros((22, 3))
    for name, offset in sheet["skeleton"].items():
        offsets[INDEX[name]] = offset
        if name.startswith("left"):
            offsets[INDEX[name.replace("left", "right")]] = np.multiply(offset, (-1, 1, 1))
    return mmdm.Skeleton(offsets)


def spread_out(sheet: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """A key's pose as body part → word → degrees, with front and back resolved to left and right."""
    front = key["front"]
    sides = {"front": front, "back": "right" if front == "left" else "left"}
    pose: dict[str, dict[str, float]] = {}
    for part, words in sheet["poses"][key["pose"]].items():
        side, _, limb = part.partition("_")
        pose[f"{sides[side]}_{limb}" if limb else part] = dict(words)
    hand = SIDES[front]
    for part, word in (("pelvis", "twist"), ("spine", "twist"), ("neck", "twist"), ("head", "twist")):
        if word in pose.get(part, {}):
            pose[part][word] *= -hand
    for part, word in (("pelvis", "list"), ("spine", "side")):
        if word in pose.get(part, {}):
            pose[part][word] *= hand
    for name, degrees in key.get("set", {}).items():
        part, word = name.split(".")
        pose.setdefault(part, {})[word] = degrees
    return pose


def rotations_of(pose: Mapping[str, Mapping[str, float]], heading: float, slope: float) -> np.ndarray:
    """(22, 4) local rotations."""

    def word(part: str, name: str) -> float:
        return pose.get(part, {}).get(name, 0.0)

    def torso(part: str, share: float = 1.0) -> np.ndarray:
        return chain(
            turn("y", share * word(part, "twist")),
            turn("z", -share * word(part, "side")),
            turn("x", share * word(part, "bend")),
        )

    q = np.tile(np.array(rot.IDENTITY), (22, 1))
    facing = turn("y", heading)
    q[0] = chain(facing, torso("pelvis"), turn("z", -word("pelvis", "list")))
    for name in ("spine1", "spine2", "spine3"):
        q[INDEX[name]] = torso("spine", 1 / 3)
    q[INDEX["neck"]], q[INDEX["head"]] = torso("neck"), torso("head")
    for side, hand in SIDES.items():
        leg, arm = f"{side}_leg", f"{side}_arm"
        aim = chain(facing, turn("y", hand * word(leg, "out")))
        thigh = chain(aim, turn("z", hand * word(leg, "spread")), turn("x", -word(leg, "swing")))
        shin = chain(thigh, turn("x", word(leg, "knee")))
        foot = chain(aim, turn("x", slope - word(leg, "foot")))
        toes = chain(aim, turn("x", -max(word(leg, "foot"), 0.0)))
        above = q[0]
        for name, world in (("hip", thigh), ("knee", shin), ("ankle", foot), ("foot", toes)):
            q[INDEX[f"{side}_{name}"]] = chain(rot.conjugate(above), world)
            above = world
        q[INDEX[f"{side}_collar"]] = turn("z", hand * word(f"{side}_collar", "raise"))
        q[INDEX[f"{side}_shoulder"]] = chain(
            turn("x", -word(arm, "swing")), turn("z", -hand * word(arm, "lower")), turn("x", -word(arm, "twist"))
        )
        q[INDEX[f"{side}_elbow"]] = turn("y", -hand * word(arm, "elbow"))
        q[INDEX[f"{side}_wrist"]] = turn("y", -hand * word(f"{side}_wrist", "tilt"))
    return q


class Sole:
    """Where a foot touches: heel and ball relative to ankle and toe joint, for the floor and for standing still."""

    def __init__(self, sheet: Mapping[str, Any]):
        foot, length = sheet["foot"], sheet["skeleton"]["left_foot"][2]
        self.slope = float(foot["slope"])
        drop = length * np.sin(np.radians(self.slope)) + foot["sole"]
        # in the ankle's frame, which looks along the foot's slope
        level = turn("x", -self.slope)
        self.heel = rot.rotate(level, np.array([0.0, -drop, -foot["heel"]]))
        self.ball = np.array([0.0, 0.0, length]) + rot.rotate(level, np.array([0.0, -foot["sole"], 0.0]))

    def points(self, turns: np.ndarray, places: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
        """World places of heel and ball."""
        ankle = INDEX[f"{side}_ankle"]
        heel, ball = (places[ankle] + rot.rotate(turns[ankle], p) for p in (self.heel, self.ball))
        return heel, ball


def place(sheet: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) key frames, (K, 22, 4) rotations and (K, 3) root positions: each support foot stays where it came down."""
    offsets = skeleton(sheet).offsets.astype(np.float64)
    sole = Sole(sheet)
    frames, rotations, roots = [], [], []
    standing = ""
    spot = {"heel": np.zeros(3), "ball": np.zeros(3)}
    for key in sheet["keys"]:
        pose = spread_out(sheet, key)
        q = rotations_of(pose, key["heading"], sole.slope)
        turns, points = kinematics.forward(q, np.zeros(3), offsets)
        touching = {side: dict(zip(("heel", "ball"), sole.points(turns, points, side), strict=True)) for side in SIDES}
        support = key["support"]
        if standing and support != standing:  # the other foot takes over, where it was in the key before
            turns_before, points_before = kinematics.forward(rotations[-1], roots[-1], offsets)
            spot = dict(zip(("heel", "ball"), sole.points(turns_before, points_before, support), strict=True))
        part = "ball" if pose[f"{support}_leg"].get("foot", 0.0) < 0 else "heel"
        root = spot[part] - touching[support][part] if standing else -touching[support]["heel"]
        root[1] = -min(p[1] for points_ in touching.values() for p in points_.values())
        if part == "heel":  # the ball comes down along the foot, from where it may roll on
            spot = {name: (p + root) * (1, 0, 1) for name, p in touching[support].items()}
        standing = support
        frames.append(key["frame"])
        rotations.append(q)
        roots.append(root)
    return np.array(frames), np.stack(rotations), np.stack(roots)


def bake(sheet: Mapping[str, Any], prior: str | None) -> tuple[mmdm.Motion, np.ndarray]:
    """The whole clip, and its key frames."""
    frames, rotations, roots = place(sheet)
    count = int(frames[-1]) + 1
    q, root = np.full((count, 22, 4), np.nan, np.float32), np.full((count, 3), np.nan, np.float32)
    q[frames], root[frames] = rot.continuous(rotations), roots
    motion = mmdm.Motion(q, root, skeleton(sheet), sheet["fps"])
    filled = mmdm.fill_gap(motion, 1, count - 1, keep=frames[1:-1].tolist(), prior=prior)[0]
    rounded = ROUNDING([filled])[0]
    return contacts.lock_feet(rounded, np.ones(count, bool)), frames


def main() -> None:
    """Bake and say what came out."""
    parser = argparse.ArgumentParser(description="Bake the demo clip from its key poses.")
    parser.add_argument("--out", type=Path, default=OUT, help="BVH file to write (default: %(default)s)")
    parser.add_argument("--prior", help="name or path of a prior (default: the shipped one)")
    args = parser.parse_args()
    sheet = json.loads((HERE / "key_poses.json").read_text())
    motion, frames = bake(sheet, args.prior)
    mmdm.save_bvh(motion, args.out)
    standing = contacts.detect(motion)
    print(
        f"{args.out}: {len(motion)} frames, {len(motion) / motion.fps:.1f} s, {len(frames)} key poses; "
        f"feet slide at {100 * contacts.slide(motion, standing):.1f} cm/s while they stand"
    )


if __name__ == "__main__":
    main()
