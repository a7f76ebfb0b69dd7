"""From an edited motion to the rotations of the rig's own bones. NumPy only.

Everything is a difference to what was read, so a joint that was not edited gets exactly its old channels back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from ..engine_link import INDEX, JOINTS, PARENTS, Motion, chains
from ..engine_link import rotations as rot
from .binding import Binding, RigTake

Style = Literal["FILL", "REFINE"]


def effective(take: RigTake, edited: Motion, changed: np.ndarray, writable: set[str]) -> tuple[Motion, np.ndarray]:
    """The edit as far as it can be written, and where: ((T, 23) bool, True = really different).

    writable: roles whose bones may be written; "root" for the root position. An edit of a role that the figure lacks is
    kept: it moves what hangs below.
    """
    exists = take.motion.skeleton.exists
    old, new = take.motion.rotations, edited.rotations
    # the two signs of a quaternion are the same rotation
    differs = ~((new == old).all(axis=-1) | (new == -old).all(axis=-1))
    moved = (edited.root != take.motion.root).any(axis=-1)
    where = changed & np.concatenate([differs, moved[:, None]], axis=1)
    for j, role in enumerate(JOINTS):
        if role not in writable and exists[j]:
            where[:, j] = False
    if "root" not in writable:
        where[:, 22] = False
    rotations = np.where(where[:, :22, None], new, old)
    root = np.where(where[:, 22:], edited.root, take.motion.root)
    for j in range(1, 22):
        if exists[j]:
            parent = PARENTS[j]
            while parent >= 0 and not exists[parent]:
                if JOINTS[j] in writable:
                    where[:, j] |= where[:, parent]
                parent = PARENTS[parent]
    return replace(take.motion, rotations=rotations, root=root), where


def turns(take: RigTake, goal: Motion) -> np.ndarray:
    """(T, 22, 4) how far each role's segment turns from the take to the goal, in armature space."""
    binding = take.binding
    before = binding.alignment.from_canonical(take.motion.rotations)
    after = binding.alignment.from_canonical(goal.rotations)
    world = binding.to_world[:, None]
    delta = rot.multiply(after, rot.conjugate(before))
    return rot.multiply(rot.conjugate(world), rot.multiply(delta, world))


def bases(
    binding: Binding, delta: np.ndarray, where: np.ndarray, bones: set[str], style: Style
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """New rotations of bones in a plain tree: name → ((T, 4), (T,) bool frames).

    delta: as `turns` gives. where: (T, 23) bool. bones: those that may be written.
    """
    place = {name: i for i, name in enumerate(binding.bones)}
    result: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    identity = np.broadcast_to(np.array(rot.IDENTITY), binding.to_world.shape)
    moved = np.empty((len(binding.bones), *binding.to_world.shape))
    starts = {chain[0]: role for role, chain in binding.roles.chains.items()}
    done: set[str] = set()
    for b, name in enumerate(binding.bones):
        if name in done:
            continue
        parent = binding.parents[b]
        above = moved[parent] if parent >= 0 and binding.inherits[b] else identity
        if name not in starts:
            moved[b] = above
            continue
        role = starts[name]
        chain = binding.roles.chains[role]
        frames = where[:, INDEX[role]]
        rows = [place[link] for link in chain]
        may = [link in bones for link in chain]
        done.update(chain)
        if not frames.any() or not any(may):
            moved[rows] = above
            continue
        target = np.where(frames[:, None], delta[:, INDEX[role]], above)
        steps = _chain_steps(binding, rows, may, above, target, frames, style)
        reached = above
        for link, row, step, allowed in zip(chain, rows, steps, may, strict=True):
            moved[row] = rot.multiply(reached, step)
            reached = moved[row]
            if allowed:
                local = rot.multiply(rot.conjugate(binding.pose[:, row]), rot.multiply(step, binding.pose[:, row]))
                new = rot.normalize(rot.multiply(binding.basis[:, row], local))
                same = rot.angle(new, binding.basis[:, row])[frames].max() < 1e-7
                if not (same and link != chain[may.index(True)]):
                    result[link] = (new, frames)
    return result


def _chain_steps(
    binding: Binding,
    rows: list[int],
    may: list[bool],
    above: np.ndarray,
    target: np.ndarray,
    frames: np.ndarray,
    style: Style,
) -> list[np.ndarray]:
    """How far each bone of a chain turns by itself, (T, 4) each, so that their product takes ``above`` to ``target``.

    Turns are about axes of the old pose. The first bone that may be written absorbs what the others leave.
    """
    main = may.index(True)
    identity = np.broadcast_to(np.array(rot.IDENTITY), target.shape)
    steps = [identity] * len(rows)
    if style == "REFINE":
        shake = np.array(
            [chains.jitter(binding.basis[:, row]) if ok else 0.0 for row, ok in zip(rows, may, strict=True)]
        )
        share = shake / shake.sum() if shake.sum() > 0 else np.zeros(len(rows))
        whole = rot.log(rot.multiply(rot.conjugate(above), target))
    for i, row in enumerate(rows):
        if i == main or not may[i]:
            continue
        if style == "REFINE":
            steps[i] = rot.exp(share[i] * whole)
        else:
            old = binding.basis[:, row]
            new = chains.bridged(old, frames)
            pose = binding.pose[:, row]
            own = rot.multiply(rot.conjugate(old), new)
            steps[i] = rot.multiply(pose, rot.multiply(own, rot.conjugate(pose)))
    before, after = above, target
    for step in steps[:main]:
        before = rot.multiply(before, step)
    for step in reversed(steps[main + 1 :]):
        after = rot.multiply(after, rot.conjugate(step))
    steps[main] = rot.multiply(rot.conjugate(before), after)
    return steps
