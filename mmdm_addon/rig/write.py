"""An edited motion back onto the rig: keys in a copy of the source action, nothing else touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from .. import compat, nla
from ..engine_link import Motion, MotionError, kinematics
from ..engine_link import rotations as rot
from . import channels, controls, edits, limbs, sampling, solve, unkeyed
from .binding import RigTake
from .edits import LOCATION, SCALE, Density, Edit, Spacing
from .roles import RoleMap
from .solve import Style

TOLERANCE = 0.2
"""Degrees; default distance of reduced keys from the motion."""

_OVERRULING = (
    "IK", "SPLINE_IK", "COPY_ROTATION", "COPY_TRANSFORMS", "DAMPED_TRACK", "LOCKED_TRACK", "TRACK_TO", "STRETCH_TO",
    "ARMATURE", "ACTION", "TRANSFORM", "PIVOT",
)  # fmt: skip
"""Constraints that decide a bone's rotation themselves."""


@dataclass(frozen=True)
class WriteReport:
    """What was written.

    action: name of the new action. bones: names of the bones with new keys ("" for the object). keys: how many keys.
    largest_degrees: largest change of a joint's rotation. largest_cm: largest move of a joint. notes: plain sentences
    on what was left alone and why.
    """

    action: str
    bones: tuple[str, ...]
    keys: int
    largest_degrees: float
    largest_cm: float
    notes: list[str] = field(default_factory=list)


def check(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    roles: RoleMap,
    bones: set[str] | None = None,
    span: tuple[float, float] | None = None,
    *,
    strips: bool = False,
) -> None:
    """Raise `MotionError` if the rig's state forbids writing keys to these bones (None = all). Ask before computing.

    span: first and last frame to write, where they are known; it matters to limbs that change between IK and FK.
    strips: an NLA strip in tweak mode may be written in place of the armature's own action.
    """
    roles.require()
    data = armature.animation_data
    if armature.library and not armature.override_library:
        raise MotionError(
            f"'{armature.name}' is linked from another file; make a library override of it and try again."
        )
    if armature.mode == "EDIT":
        raise MotionError(f"'{armature.name}' is in Edit Mode; switch to Pose Mode and try again.")
    if data and data.use_tweak_mode:
        if not strips:
            raise MotionError("The armature is in NLA tweak mode; leave it with Tab in the NLA Editor and try again.")
        if problem := nla.obstacle(armature):
            raise MotionError(problem + ".")
    elif data and data.use_nla and len(data.nla_tracks):
        if any(track.is_solo for track in data.nla_tracks):
            raise MotionError("An NLA track plays solo and hides the action; switch its star off in the NLA Editor.")
        layered = any(not t.mute and len(t.strips) for t in data.nla_tracks)
        if layered and (data.action_blend_type != "REPLACE" or data.action_influence < 1):
            raise MotionError(
                "The action is blended over NLA strips; set its blending to Replace and its influence to 1, "
                "or mute the strips."
            )
    wanted = {b for b in roles.bones() if bones is None or b in bones}
    limbs.require_fk(armature, roles, wanted, span)
    for name in sorted(wanted):
        _require_free(armature, armature.pose.bones[name])
    for (path, _), track in sampling.live_curves(armature).items():
        name = _bone_of(path)
        if name in wanted and track.modified:
            raise MotionError(f"'{name}' has F-curve modifiers; bake or mute them in the Graph Editor and try again.")


def _bone_of(path: str) -> str:
    if not path.startswith('pose.bones["'):
        return ""
    return bpy.utils.unescape_identifier(path[len('pose.bones["') : path.rindex('"]')])


def _require_free(armature: bpy.types.Object, bone: bpy.types.PoseBone) -> None:
    for constraint in bone.constraints:
        if constraint.type in _OVERRULING and not constraint.mute and constraint.influence > 0:
            raise MotionError(
                f"'{bone.name}' is driven by its constraint '{constraint.name}', so keys on it would do nothing; "
                "bake or mute the constraint, or deselect the bone."
            )
    for end in armature.pose.bones:
        for constraint in end.constraints:
            if constraint.type in ("IK", "SPLINE_IK") and not constraint.mute and constraint.influence > 0:
                chain: list[str] = []
                link = end if getattr(constraint, "use_tail", True) else end.parent
                while link and (constraint.chain_count == 0 or len(chain) < constraint.chain_count):
                    chain.append(link.name)
                    link = link.parent
                if bone.name in chain:
                    raise MotionError(
                        f"'{bone.name}' is moved by the IK constraint on '{end.name}', so keys on it would do nothing; "
                        "bake the limb to FK or mute the constraint, or deselect the bone."
                    )


def write(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    take: RigTake,
    edited: Motion,
    *,
    changed: np.ndarray,
    bones: set[str] | None,
    name: str,
    start: float,
    end: float,
    density: Density = "MATCH",
    step: int = 1,
    tolerance: float = TOLERANCE,
    keep: Mapping[str, list[float]] | None = None,
    style: Style | None = None,
    assign: bool = True,
) -> WriteReport:
    """Key an edited motion into a new action and assign it.

    take: as read from this armature. edited: same length. changed: (T, 23) bool, what to write; column 22 is the root
    position. bones: names that may be written, None = every bone with a role. name: of the new action. start, end:
    scene frames outside which nothing is written. density: every frame, every ``step``-th from ``start``, or as the
    source: every frame where it is baked, else as few Bézier keys as ``tolerance`` allows (degrees; for the root the
    same angle seen from one leg length away). keep: bone → frames of keys that stay and are hit exactly. style: how
    chains with more bones than roles are treated, by default REFINE where the frame at ``start`` or ``end`` itself
    changes, else FILL.

    The source action is not changed and gets a fake user, as does the new one. Keys outside stay bit for bit. Raises
    `MotionError`, before anything is made, where `check` does and where the shapes do not fit.
    """
    changed = np.asarray(changed, bool)
    if len(edited) != len(take.motion) or changed.shape != (len(take.frames), 23):
        raise MotionError("The result does not have as many frames as the take that was read; read the take again.")
    roles = take.binding.roles
    missing = next((b for b in take.binding.bones if b not in armature.pose.bones), None)
    if missing is not None:
        raise MotionError(f"The bone '{missing}' is gone since the motion was read; run the command again.")
    inside = (take.frames >= start - 1e-6) & (take.frames <= end + 1e-6)
    touched = take.frames[changed.any(axis=1) & inside]
    span = (float(touched[0]), float(touched[-1])) if len(touched) else None
    check(context, armature, roles, bones, span, strips=True)
    edited.require_finite(changed)

    changed = changed & inside[:, None]
    if style is None:
        at_border = (np.abs(take.frames - start) < 1e-6) | (np.abs(take.frames - end) < 1e-6)
        style = "REFINE" if changed[at_border].any() else "FILL"
    notes: list[str] = []
    allowed = _allowed(armature, roles, bones, notes)
    carriers = {take.binding.horizontal.bone, take.binding.vertical.bone}
    writable = {role for role, chain in roles.chains.items() if set(chain) & allowed}
    hips = set(roles.chains["pelvis"])
    carried = all(c in allowed or (c == "" and hips & allowed) for c in carriers)
    if carried:
        writable.add("root")
    elif changed[:, 22].any() and hips & allowed:
        notes.append(
            f"The root motion is on '{min(carriers - allowed)}', which is not selected, so the path stays as it was."
        )
    goal, where = solve.effective(take, edited, changed, writable)

    session = Session(armature, take, name, density, step, tolerance, start, keep or {}, style, notes)
    try:
        if take.binding.direct:
            delta = solve.turns(take, goal)
            turned = solve.bases(take.binding, delta, where, allowed, style)
            made = [session.rotation(b, q, frames) for b, (q, frames) in turned.items()]
            made += session.locations(goal.root.astype(np.float64) - take.motion.root, where[:, 22])
        else:
            made = controls.solve_by_evaluation(context, armature, take, goal, where, allowed, session, carried=carried)
        session.apply(made)
    except BaseException:
        session.discard()
        raise
    if assign:
        nla.assign(armature, session.action, session.slot)
    else:
        session.restore()
    context.scene.frame_set(context.scene.frame_current, subframe=context.scene.frame_subframe)
    return WriteReport(
        session.action.name, session.bones, session.keys, *_largest(take.motion, goal, where), session.notes
    )


def _allowed(armature: bpy.types.Object, roles: RoleMap, bones: set[str] | None, notes: list[str]) -> set[str]:
    wanted = {b.name for b in armature.pose.bones if bones is None or b.name in bones}
    hidden = {b for b in wanted if compat.is_hidden(armature.pose.bones[b])}
    skipped = sorted(hidden & roles.bones())
    if skipped:
        notes.append(f"Hidden bones were left alone: {_few(skipped)}.")
    return wanted - hidden


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _largest(before: Motion, after: Motion, where: np.ndarray) -> tuple[float, float]:
    """Largest change of any joint: degrees of its own rotation, centimetres of its place."""
    frames = where.any(axis=1)
    if not frames.any():
        return 0.0, 0.0
    a, b = (m.rotations[frames].astype(np.float64) for m in (before, after))
    offsets = before.skeleton.offsets.astype(np.float64)
    moved = kinematics.positions(b, after.root[frames].astype(np.float64), offsets) - kinematics.positions(
        a, before.root[frames].astype(np.float64), offsets
    )
    return float(np.degrees(rot.angle(a, b).max())), float(100 * np.linalg.norm(moved, axis=-1).max())


class Session:
    """The new action while it is being made."""

    def __init__(
        self,
        armature: bpy.types.Object,
        take: RigTake,
        name: str,
        density: Density,
        step: int,
        tolerance: float,
        start: float,
        keep: Mapping[str, list[float]],
        style: Style,
        notes: list[str],
        switched: tuple[limbs.Limb, ...] = (),
        span: tuple[float, float] = (0, 0),
    ) -> None:
        data = armature.animation_data
        self.armature, self.take, self.name, self.style, self.notes = armature, take, name, style, notes
        shift = nla.shift(armature)  # curves are read and written on the action's own time
        self.frames, self.start, self.span = take.frames - shift, start - shift, (span[0] - shift, span[1] - shift)
        self.keep = {bone: [frame - shift for frame in frames] for bone, frames in keep.items()}
        self.density, self.step = density, step
        self.radians = float(np.radians(tolerance))
        self.source = data.action if data else None
        self.source_slot = compat.assigned_slot(armature)
        self.kept = self.source is not None and self.source.use_fake_user
        if self.source is not None and not self.kept:
            self.source.use_fake_user = True
        self.driven = set()
        if data:
            self.driven = {(d.data_path, d.array_index) for d in data.drivers if not d.mute}
        self.old = {(c.data_path, c.array_index): c for c in compat.curves(self.source, self.source_slot)}
        self.live = sampling.live_curves(armature)
        self.switched = switched
        self.unkeyed: unkeyed.Values = {}
        self.bones: tuple[str, ...] = ()
        self.keys = 0
        self._make()

    def _make(self) -> None:
        if compat.action_animates(self.armature):
            self.action, self.slot = compat.copy_action(self.source, self.source_slot, self.name)
        else:
            self.action, self.slot = compat.new_action(self.name, self.armature)
        self.action.use_fake_user = True
        for limb in self.switched:
            if (limb.path, 0) not in self.old:
                switch = float(self.armature.pose.bones[limb.switch]["IK_FK"])
                self.unkeyed.setdefault((limb.path, 0), switch)
            limbs.key_fk(self.armature, self.action, self.slot, limb, self.live, self.span)

    def restore(self) -> None:
        """Assign the source action again, and what only the new one keys as it was."""
        nla.assign(self.armature, self.source, self.source_slot)
        unkeyed.put_back(self.armature, self.unkeyed, compat.curves(self.source, self.source_slot))

    def discard(self) -> None:
        """As if nothing had been started: the source assigned as before, no new action left."""
        self.restore()
        bpy.data.actions.remove(self.action)
        if self.source is not None and self.source.use_fake_user != self.kept:
            self.source.use_fake_user = self.kept

    def reset(self) -> None:
        """Start again from a fresh copy of the source."""
        self.restore()
        bpy.data.actions.remove(self.action)
        self.bones, self.keys = (), 0
        self._make()

    def rotation(self, bone: str, target: np.ndarray, frames: np.ndarray) -> Edit:
        """New rotations (T, 4) of a bone where frames (T,) is True."""
        pose = self.armature.pose.bones[bone]
        target = self._hold_locked(pose, target)
        mode = pose.rotation_mode
        return Edit(pose, sampling.bone_path(bone, channels.path_of(mode)), mode, target, frames, bone)

    def scale(self, bone: str, target: np.ndarray, frames: np.ndarray) -> Edit:
        """New scales (T, 3) of a bone where frames (T,) is True."""
        return Edit(self.armature.pose.bones[bone], sampling.bone_path(bone, "scale"), SCALE, target, frames, bone)

    def _hold_locked(self, pose: bpy.types.PoseBone, target: np.ndarray) -> np.ndarray:
        locked = np.array(pose.lock_rotation)
        euler = pose.rotation_mode not in channels.PATHS
        if euler or not locked.any() or locked.all() or (pose.lock_rotations_4d):
            return target  # Euler and four-channel locks are per channel: `_refused`
        old = self.take.binding.basis[:, self.take.binding.bones.index(pose.name)]
        return channels.hold_locked(target, old, locked)

    def locations(self, move: np.ndarray, frames: np.ndarray) -> list[Edit]:
        """Move the figure by (T, 3) metres, Y up, where frames is True, through whatever carries its root motion."""
        binding = self.take.binding
        if not frames.any():
            return []
        if binding.horizontal.bone == binding.vertical.bone:
            return [self.location(binding.horizontal.bone, binding.horizontal.frame, move, frames)]
        flat, upright = move * (1.0, 0.0, 1.0), move * (0.0, 1.0, 0.0)
        return [
            self.location(binding.horizontal.bone, binding.horizontal.frame, flat, frames),
            self.location(binding.vertical.bone, binding.vertical.frame, upright, frames),
        ]

    def location(self, bone: str, frame: np.ndarray, move: np.ndarray, frames: np.ndarray) -> Edit:
        """One carrier's part of a move: frame (T, 3, 3) maps its channels to metres."""
        owner = self.armature.pose.bones[bone] if bone else self.armature
        path = sampling.bone_path(bone, "location") if bone else "location"
        edit = Edit(owner, path, LOCATION, np.zeros((len(frames), 3)), frames, bone or "Object Transforms")
        old = edits.Property(edit, self.live, lambda _p, _i: False).old(self.frames)
        target = old + np.linalg.solve(frame, move[..., None])[..., 0]
        return Edit(owner, path, LOCATION, target, frames, edit.group)

    def _refused(self, edit: Edit) -> Any:
        """Whether a channel must not be written: locked, muted, hidden or driven."""

        def refused(path: str, i: int) -> bool:
            curve = self.old.get((path, i))
            if curve is not None and (
                curve.lock or curve.hide or sampling.muted(curve) or (curve.group and curve.group.lock)
            ):
                return True
            if (path, i) in self.driven or (path, -1) in self.driven:
                return True
            if edit.mode == LOCATION:
                return bool(edit.owner.lock_location[i])
            if edit.mode == SCALE:
                return bool(edit.owner.lock_scale[i])
            if edit.mode in channels.PATHS:
                pose = edit.owner
                if pose.lock_rotations_4d:
                    return bool(pose.lock_rotation_w if i == 0 else pose.lock_rotation[i - 1])
                return all(pose.lock_rotation)
            return bool(edit.owner.lock_rotation[i])

        return refused

    def apply(self, made: list[Edit], trial: bool = False) -> None:
        """Write edits into the new action; on every frame for a trial."""
        leg = self.take.motion.skeleton.leg_length
        sources = [edits.Property(edit, self.live, self._refused(edit)) for edit in made]
        cuts = [self._cuts(edit, source) for edit, source in zip(made, sources, strict=True)]
        dense = self._dense(sources, cuts)
        held: list[str] = []
        for edit, source, cut, baked in zip(made, sources, cuts, dense, strict=True):
            if not all(source.writable):
                held.append(edit.group)
            if not cut or not any(source.writable):
                continue
            for i, value in enumerate(source.static):
                if source.writable[i] and (edit.path, i) not in self.old:
                    self.unkeyed.setdefault((edit.path, i), float(value))
            tolerance = self.radians / (2 if edit.mode == "QUATERNION" else 1)
            if edit.mode == LOCATION:
                tolerance = self.radians * leg / self._metres(edit)
            spacing = Spacing("ALL" if trial else self.density, self.step, tolerance, self.start)
            self.keys += edits.apply(edit, source, self.action, self.slot, self.frames, cut, spacing, baked, self.style)
            owner = "" if edit.owner == self.armature else edit.group
            if owner not in self.bones:
                self.bones = (*self.bones, owner)
        if not trial:
            unkeyed.remember(self.action, self.unkeyed)
        note = f"Locked, muted, hidden or driven channels were left alone on {_few(sorted(set(held)))}."
        if held and note not in self.notes:
            self.notes.append(note)

    def _metres(self, edit: Edit) -> float:
        binding = self.take.binding
        carrier = binding.vertical if edit.group == binding.vertical.bone else binding.horizontal
        return float(np.linalg.norm(carrier.frame[0], axis=0).mean())

    def _cuts(self, edit: Edit, source: edits.Property) -> list[edits.Piece]:
        kept = np.array(sorted(self.keep.get("" if edit.owner == self.armature else edit.group, ())), np.float64)
        own = source.key_times
        if len(kept):  # only keys that are really there can stay
            kept = kept[[bool(len(own)) and np.abs(own - k).min() < edits.SAME_TIME for k in kept]]
        return edits.pieces(self.frames, edit.frames, kept)

    def _dense(self, sources: list[edits.Property], cuts: list[list[edits.Piece]]) -> list[bool]:
        """Which properties are baked around the frames to write; those with too few keys follow the majority."""
        own = [
            edits.is_dense(source.key_times, cut[0].left, cut[-1].right) if cut else None
            for source, cut in zip(sources, cuts, strict=True)
        ]
        known = [o for o in own if o is not None]
        usual = bool(known) and sum(known) * 2 > len(known)
        return [usual if o is None else o for o in own]
