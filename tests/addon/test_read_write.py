"""Armature → motion → armature: what comes in is true, what goes out is exact, and nothing else is touched."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest

from mmdm_addon import compat
from mmdm_addon.engine_link import INDEX, JOINTS, MotionError, chains, kinematics
from mmdm_addon.engine_link import rotations as rot
from mmdm_addon.rig import channels, read, reduce, roles, sampling, write
from mmdm_addon.rig.edits import is_dense
from mmdm_addon.rig.keys import GENERATED, HANDLE, INTERPOLATION, Keys
from mmdm_addon.rig.tree import BoneTree

ALL = slice(None)
FRAMES = np.arange(1.0, 61.0)
START, STOP = 20, 40  # array indices of the gap, so scene frames 21 … 40 between the borders 20 and 41


def take_of(figure, frames=FRAMES):
    return read.read(bpy.context, figure, frames)


def put(figure, take, edited, *, mask=None, bones=None, keep=None, name="Result", **options):
    """Write the gap of ``edited`` back; every frame unless said otherwise."""
    mask = figures.columns(len(take.frames), START, STOP) if mask is None else mask
    options.setdefault("density", "ALL")
    if "start" not in options:
        options |= {"start": take.frames[START - 1], "end": take.frames[STOP]}
    return write.write(bpy.context, figure, take, edited, changed=mask, bones=bones, keep=keep, name=name, **options)


def angles(a, b):
    """(T, 22) radians between two motions."""
    return rot.angle(a.rotations.astype(np.float64), b.rotations.astype(np.float64))


def joint_positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


def assert_follows(figure, take, edited, *, columns=ALL):
    """What Blender now evaluates is the edited motion, within the tolerances of the round trip."""
    back = take_of(figure, take.frames)
    leg = take.motion.skeleton.leg_length
    assert angles(back.motion, edited)[:, columns].max() < 1e-5
    step = np.spacing(np.abs(edited.root).max())
    assert np.abs(back.motion.root - edited.root).max() < max(1e-6 * leg, 4 * step)
    return back


def assert_outside_unchanged(figure, source, slot, report, inside):
    """Keys outside ``inside`` (two frames) are the same bits, and so is the curve to 1e-6."""
    new, new_slot = bpy.data.actions[report.action], compat.assigned_slot(figure)
    before, after = figures.snapshot(source, slot), figures.snapshot(new, new_slot)
    low, high = inside
    exact = ("co", "interpolation", "easing", "type", "back", "amplitude", "period", "select_control_point")
    for key, old in before.items():
        times = old["co"][:, 0]
        rows = (times <= low) | (times >= high)
        stays = after[key]["co"][:, 0]
        same = (stays <= low) | (stays >= high)
        kept = np.isin(stays[same], times[rows])
        for column in exact:
            assert (old[column][rows] == after[key][column][same][kept]).all(), (key, column)
        away = (times < low) | (times > high)
        far = ((stays < low) | (stays > high)) & np.isin(stays, times)
        if kept.all():  # no key had to be inserted into a segment, so handles outside are the same bits too
            for column in ("handle_left", "handle_right", "handle_left_type", "handle_right_type"):
                assert (old[column][away] == after[key][column][far]).all(), (key, column)
    times = np.concatenate([np.linspace(low - 30, low, 200), np.linspace(high, high + 30, 200)])
    old, new = figures.sampled(source, slot, times), figures.sampled(new, new_slot, times)
    for key, values in old.items():
        assert np.abs(values - new[key]).max() < 1e-6 * max(1, np.abs(values).max()), key
    for key in new.keys() - old.keys():  # curves of channels that had none
        assert np.ptp(new[key]) < 1e-6


# --- reading ---------------------------------------------------------------------------------------------------------


RIGS = (
    "rigs/axisneuron_18.bvh", "rigs/bip01_rocketbox_female_mesh.fbx", "rigs/character1_walk.bvh",
    "rigs/chest_collar_100style_like.bvh", "rigs/daz_poser_cmu_91_48.fbx", "rigs/geno_mesh.fbx",
    "rigs/mixamo_colon_female_mesh_anim.glb", "rigs/mixamo_colon_gangnam_anim.fbx",
    "rigs/mixamo_colon_ybot_tpose_mesh.fbx", "rigs/mixamo_noprefix_lookaround_anim.fbx",
    "rigs/mixamo_numbered7_hiphop_anim.fbx", "rigs/mixamo_underscore_default_anim.glb",
    "rigs/rigify_def_human_mesh_anim.glb", "rigs/vrm0_armature_transform.vrm", "rigs/xia_cmu_normal.bvh",
    "cmu/raw/05_06.bvh", "cmu/raw/131_01.bvh", "cmu/raw/94_13_43joints.bvh",
)  # fmt: skip


def rig_frames(rig, count=50):
    action = rig.animation_data.action if rig.animation_data else None
    first = np.floor(action.frame_range[0]) if action else 1
    return first + np.arange(count, dtype=float)


def exact_roles(rig, take):
    """Roles whose place follows from rotations alone: no travelling or further bone on the way from the hips."""
    tree = BoneTree.of(rig)
    size = min(np.ptp(tree.heads), 1.0)
    chains = take.binding.roles.chains
    live = sampling.live_curves(rig)

    def rigid(bone):
        for name, usual in (("location", 0), ("scale", 1)):
            for i in range(3):
                curve = live.get((sampling.bone_path(bone, name), i))
                if curve is not None and np.abs(curve.co[:, 1] - usual).max() > 1e-4 * size:
                    return False
        return True

    exact = {"pelvis"}
    for role, chain in chains.items():
        above = next((r for r in (JOINTS[p] for p in _above(INDEX[role])) if r in chains), None)
        if above in exact and len(chains[above]) == 1:
            path = tree.path(tree.index[chains[above][0]], tree.index[chain[0]])
            turning = [tree.names[b] for b in path[1:-1]]
            still = all(_still(take, b) for b in turning)
            if path and still and all(rigid(tree.names[b]) for b in path[1:]):
                exact.add(role)
    return exact


def _above(joint):
    from mmdm_addon.engine_link import PARENTS

    while PARENTS[joint] >= 0:
        joint = PARENTS[joint]
        yield joint


def _still(take, bone):
    basis = take.binding.basis[:, take.binding.bones.index(bone)]
    return rot.angle(basis, basis[:1]).max() < 1e-6 and rot.angle(basis[:1], np.array(rot.IDENTITY)).max() < 1e-6


@pytest.mark.parametrize("file", RIGS)
def test_forward_kinematics_meets_blenders_own_bone_heads(file, data, import_rig):
    rig = import_rig(data(file))
    take = take_of(rig, rig_frames(rig, 12))
    seen = sampling.evaluated(bpy.context, rig, take.binding.bones, take.frames)
    ours = joint_positions(take.motion)
    leg = take.motion.skeleton.leg_length
    exact = exact_roles(rig, take)
    assert exact >= {"pelvis"}
    if file not in ("rigs/axisneuron_18.bvh", "rigs/xia_cmu_normal.bvh"):  # bones that move apart; hip joints that turn
        assert len(exact) >= 7
    for role in exact:
        local = seen.pose[:, take.binding.bones.index(take.binding.roles.read[role][0]), :3, 3].astype(np.float64)
        world = np.einsum("tij,tj->ti", seen.world[:, :3, :3], local) + seen.world[:, :3, 3]
        assert np.abs(ours[:, INDEX[role]] - world @ sampling.WORLD_AXES.T).max() < 1e-4 * leg, role


@pytest.mark.parametrize("file", RIGS)
def test_round_trip_of_real_rigs(file, data, import_rig):
    rig = import_rig(data(file))
    take = take_of(rig, rig_frames(rig))
    edited = figures.bend(take.motion, START, STOP, move=0.2 * take.motion.skeleton.leg_length)
    source = rig.animation_data.action if rig.animation_data else None
    slot = compat.assigned_slot(rig)
    report = put(rig, take, edited)
    back = assert_follows(rig, take, edited)
    outside = np.ones(len(take.frames), bool)
    outside[START:STOP] = False
    assert angles(back.motion, take.motion)[outside].max() < 1e-6
    assert report.notes == []
    if source is not None and "glb" not in file:
        assert_outside_unchanged(rig, source, slot, report, (take.frames[START - 1], take.frames[STOP]))


@pytest.mark.parametrize(
    "file", ["rigs/mixamo_colon_gangnam_anim.fbx", "rigs/mixamo_colon_female_mesh_anim.glb", "cmu/raw/05_06.bvh"]
)
def test_reading_curves_agrees_with_evaluation(file, data, import_rig):
    rig = import_rig(data(file))
    frames = rig_frames(rig, 20) + 0.25
    bones = take_of(rig, frames).binding.bones
    curves = sampling.live_curves(rig)
    assert sampling.curves_suffice(rig, curves, bones)
    a = sampling.evaluated(bpy.context, rig, bones, frames)
    b = sampling.from_curves(rig, curves, BoneTree.of(rig), bones, frames)
    size = np.abs(a.pose[..., 3]).max()
    assert np.abs(a.pose - b.pose)[..., :3].max() < 2e-6
    assert np.abs(a.pose - b.pose)[..., 3].max() < 2e-6 * size
    assert np.abs(a.basis - b.basis)[..., :3].max() < 2e-6
    assert np.abs(a.world - b.world).max() < 2e-6 * max(1, np.abs(a.world).max())


def test_a_standing_figure_reads_upright_and_facing_forward():
    figure = figures.make(sideways=True)
    motion = take_of(figure, [1.0]).motion
    place = joint_positions(motion)[0]
    assert motion.root[0] == pytest.approx((0, 0.95, 0), abs=1e-6)
    assert place[INDEX["left_wrist"]][0] > 0.6  # left is +X
    assert place[INDEX["head"]][1] > 1.5  # Y up
    assert place[INDEX["left_foot"]][2] > 0.05  # facing +Z
    world = figures.heads()
    for role, head in world.items():
        assert place[INDEX[role]] == pytest.approx(head @ sampling.WORLD_AXES.T, abs=1e-6)


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", *channels.EULER_ORDERS])
def test_channels_mean_what_blender_means(mode):
    figure = figures.make()
    figures.animate(figure, modes=(mode,), frames=8, amount=1.5)
    bones = tuple(b.name for b in figure.data.bones)
    frames = np.arange(1, 9) + 0.5
    a = sampling.evaluated(bpy.context, figure, bones, frames)
    b = sampling.from_curves(figure, sampling.live_curves(figure), BoneTree.of(figure), bones, frames)
    assert np.abs(a.pose - b.pose).max() < 5e-6


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
def test_euler_angles_stay_exact_in_and_near_gimbal_lock(order):
    random = np.random.default_rng(1)
    angle = random.uniform(-3, 3, (60, 3))
    angle[:, "XYZ".index(order[1])] = np.pi / 2 * random.choice([-1, 1], 60) + random.choice([0, 1e-8, 1e-4, 0.02], 60)
    q = channels.to_quaternion(angle, order)
    back = channels.from_quaternion(q, order, np.array([0.1, 0.2, 0.3]))
    assert rot.angle(channels.to_quaternion(back, order), q).max() < 1e-6


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", *channels.EULER_ORDERS])
def test_channels_follow_a_turning_bone_without_a_flip(mode):
    turn = np.stack([0.3 * np.sin(np.linspace(0, 9, 400)), np.zeros(400), np.linspace(0, 25, 400)], axis=-1)
    q = channels.to_quaternion(turn, "XYZ")
    values = channels.from_quaternion(q, mode, np.array(channels.DEFAULTS.get(mode, (0.0, 0.0, 0.0))))
    assert rot.angle(channels.to_quaternion(values, mode), q).max() < 1e-6
    if mode in ("QUATERNION", "XYZ", "YXZ"):  # other orders pass close to their own gimbal lock
        assert np.abs(np.diff(values, axis=0)).max() < 0.1


def test_the_spelling_of_a_rotation_is_followed_from_frame_to_frame():
    random = np.random.default_rng(3)
    for _ in range(200):
        told = random.random((2, random.integers(1, 40))) < random.random((2, 1))
        told[1, 0] = told[0, 0]  # the first frame follows the anchor
        walked = [told[0, 0]]
        for t in range(1, told.shape[1]):
            walked.append(told[int(walked[-1]), t])
        np.testing.assert_array_equal(channels._walk(*told), walked)


def test_frame_rate_comes_from_the_armature_first():
    figure = figures.make()
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 30, 1.001
    assert take_of(figure).motion.fps == pytest.approx(30 / 1.001)
    figure[read.SOURCE_FPS] = 120
    assert take_of(figure).motion.fps == 120
    assert read.read(bpy.context, figure, FRAMES, fps=50).motion.fps == 50


def test_scene_units_become_metres():
    figure = figures.make(scale=100)
    bpy.context.scene.unit_settings.scale_length = 0.01
    assert take_of(figure, [1.0]).motion.root[0] == pytest.approx((0, 0.95, 0), abs=1e-5)


def test_progress_is_reported_and_may_cancel():
    figure = figures.make()
    figures.animate(figure, frames=20)
    figure.pose.bones["spine2"].constraints.new("LIMIT_ROTATION")  # so that Blender has to evaluate
    calls = []
    take = read.read(bpy.context, figure, np.arange(1.0, 121.0), progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (120, 120)
    assert len(calls) >= 2
    assert len(take.motion) == 120

    def cancel(_done, _of):
        raise KeyboardInterrupt

    bpy.context.scene.frame_set(7)
    with pytest.raises(KeyboardInterrupt):
        read.read(bpy.context, figure, np.arange(1.0, 121.0), progress=cancel)
    assert bpy.context.scene.frame_current == 7


def test_bad_input_is_refused_in_words():
    figure = figures.make()
    action = figures.animate(figure, frames=10)
    with pytest.raises(MotionError, match="range is empty"):
        take_of(figure, [])
    with pytest.raises(MotionError, match="range is empty"):
        take_of(figure, [3.0, 2.0])
    curve = next(iter(compat.curves(action, compat.assigned_slot(figure))))
    curve.keyframe_points[4].co[1] = float("nan")
    with pytest.raises(MotionError, match=r"in frame 5 is not a number; delete or repair"):
        take_of(figure, np.arange(1.0, 11.0))
    curve.keyframe_points[4].co[1] = 0
    figure.scale = (-1, 1, 1)
    with pytest.raises(MotionError, match="mirrored"):
        take_of(figure)
    figure.scale = (1, 1, 1)
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(MotionError, match="Edit Mode"):
        take_of(figure)
    bpy.ops.object.mode_set(mode="OBJECT")
    roles.set_override(figure, "pelvis", "")
    with pytest.raises(MotionError, match=r"No hips bone found\. Open Bone Map and choose one\."):
        take_of(figure)


def test_results_that_do_not_fit_are_refused_before_anything_is_made():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    actions = len(bpy.data.actions)
    with pytest.raises(MotionError, match="as many frames"):
        put(figure, take, take.motion.slice(0, 30))
    broken = take.motion.with_frames(take.motion.rotations * np.nan, take.motion.root)
    with pytest.raises(MotionError, match="finite"):
        put(figure, take, broken)
    figure.data.bones["left_knee"].name = "gone"
    with pytest.raises(MotionError, match="'left_knee' is gone"):
        put(figure, take, take.motion)
    assert len(bpy.data.actions) == actions


@pytest.mark.parametrize("fixture", ["plain", "constrained"])
def test_a_failure_while_writing_leaves_no_trace(fixture, monkeypatch):
    figure = figures.make()
    source = figures.animate(figure)
    if fixture == "constrained":
        figure.pose.bones["spine2"].constraints.new("LIMIT_ROTATION")
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    actions = set(bpy.data.actions)

    def broken(*_):
        raise RuntimeError("disk full")

    monkeypatch.setattr(Keys, "store", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        put(figure, take, edited)
    assert figure.animation_data.action == source
    assert compat.action_animates(figure)
    assert set(bpy.data.actions) == actions
    assert not source.use_fake_user


def test_a_constrained_rig_is_solved_by_evaluation():
    figure = figures.make()
    figures.animate(figure)
    holder = bpy.data.objects.new("holder", None)
    bpy.context.scene.collection.objects.link(holder)
    holder.rotation_euler = (0.2, 0.4, 0.1)
    child_of = figure.pose.bones["spine3"].constraints.new("CHILD_OF")
    child_of.target = holder
    take = take_of(figure)
    assert not take.binding.direct
    edited = figures.bend(take.motion, START, STOP, amount=0.2)
    put(figure, take, edited)
    back = take_of(figure)
    assert angles(back.motion, edited).max() < 1e-4
    assert child_of.influence == 1


# --- writing: the round trip -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("modes", [("QUATERNION",), ("AXIS_ANGLE",), channels.EULER_ORDERS])
@pytest.mark.parametrize("sideways", [False, True])
def test_round_trip_in_every_rotation_mode(modes, sideways):
    figure = figures.make(sideways=sideways)
    figures.animate(figure, modes=modes)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert_follows(figure, take, edited)


def test_without_an_edit_every_channel_is_copied():
    figure = figures.make()
    source = figures.animate(figure, modes=("QUATERNION", "XYZ"))
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    report = put(figure, take, take.motion)
    assert report.keys == 0
    assert report.bones == ()
    assert report.largest_degrees == report.largest_cm == 0
    before = figures.snapshot(source, slot)
    after = figures.snapshot(bpy.data.actions[report.action], compat.assigned_slot(figure))
    assert before.keys() == after.keys()
    for key, columns in before.items():
        for name, column in columns.items():
            assert (column == after[key][name]).all()


def test_with_an_edit_of_one_joint_all_other_curves_keep_their_bits():
    figure = figures.make()
    source = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited, mask=figures.columns(60, START, STOP, ("left_elbow",)))
    back = take_of(figure)
    j = INDEX["left_elbow"]
    assert angles(back.motion, edited)[:, j].max() < 1e-5
    others = np.arange(22) != j
    assert angles(back.motion, take.motion)[:, others].max() < 1e-6
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, columns in before.items():
        same = all((column == after[key][name]).all() for name, column in columns.items())
        assert same == ("left_elbow" not in key[0])


def test_channels_themselves_survive_away_from_gimbal_lock():
    figure = figures.make()
    figures.animate(figure, modes=channels.EULER_ORDERS, amount=0.4)
    source, slot = figure.animation_data.action, compat.assigned_slot(figure)
    take = take_of(figure)
    nudged = take.motion.rotations.astype(np.float64)
    nudged[START:STOP] = rot.multiply(nudged[START:STOP], rot.exp(np.full((STOP - START, 22, 3), 1e-6)))
    put(figure, take, take.motion.with_frames(nudged, take.motion.root))
    before = figures.sampled(source, slot, FRAMES)
    after = figures.sampled(figure.animation_data.action, compat.assigned_slot(figure), FRAMES)
    written = 0
    for (path, index), values in before.items():
        if path.endswith("rotation_euler"):
            mode = figure.path_resolve(path.rpartition(".")[0]).rotation_mode
            middle = before[(path, "XYZ".index(mode[1]))]
            usable = np.abs(np.cos(middle)) > np.sin(np.radians(1))
            assert np.abs(after[(path, index)] - values)[usable].max() < 1e-5 + 2e-6 / np.cos(middle[usable]).min()
            written += int((after[(path, index)] != values).any())
    assert written > 30


def test_chain_of_further_bones_is_filled_between_its_own_borders():
    figure, take = _necked_figure()
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited, style="FILL")
    back = assert_follows(figure, take, edited)
    at = take.binding.bones.index("neck_extra")
    before, after = take.binding.basis[START - 1, at], take.binding.basis[STOP, at]
    phase = np.arange(1, STOP - START + 1) / (STOP - START + 1)
    assert rot.angle(back.binding.basis[START:STOP, at], rot.slerp(before, after, phase)).max() < 1e-5


def test_chain_of_further_bones_shares_a_refinement_by_its_own_jitter():
    figure, take = _necked_figure()
    edited = figures.bend(take.motion, START, STOP, amount=0.1)
    put(figure, take, edited, style="REFINE", mask=figures.columns(60, START, STOP, ("neck",)))
    back = take_of(figure)
    assert angles(back.motion, edited)[:, INDEX["neck"]].max() < 1e-5
    moved = [
        rot.angle(back.binding.basis[:, at], take.binding.basis[:, at]).max()
        for at in map(take.binding.bones.index, ("neck", "neck_extra"))
    ]
    jitter = [chains.jitter(take.binding.basis[:, take.binding.bones.index(b)]) for b in ("neck", "neck_extra")]
    assert moved[0] / moved[1] == pytest.approx(jitter[0] / jitter[1], rel=0.1)


def _necked_figure():
    figure = figures.make()
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    extra = bones.new("neck_extra")
    extra.head, extra.tail = (bones["neck"].head + bones["head"].head) / 2, bones["head"].head
    extra.parent, bones["head"].parent = bones["neck"], extra
    bpy.ops.object.mode_set(mode="OBJECT")
    figures.animate(figure)
    take = take_of(figure)
    assert take.binding.roles.chains["neck"] == ("neck", "neck_extra")
    return figure, take


def test_bones_between_roles_keep_their_own_keys_and_are_allowed_for():
    figure = figures.make()
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    extra = bones.new("hip_joint")
    extra.head, extra.tail = bones["pelvis"].head, bones["left_hip"].head
    extra.parent, bones["left_hip"].parent = bones["pelvis"], extra
    bpy.ops.object.mode_set(mode="OBJECT")
    figures.animate(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert "hip_joint" not in report.bones
    assert_follows(figure, take, edited)


def test_kept_rotation_of_a_bone_without_inherited_rotation():
    figure = figures.make()
    figure.data.bones["head"].use_inherit_rotation = False
    figures.animate(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert_follows(figure, take, edited)


def test_missing_toes_collars_and_spine_round_trip():
    figure = figures.make(absent=("left_foot", "right_foot", "left_collar", "right_collar", "spine2", "neck"))
    figures.animate(figure)
    take = take_of(figure)
    assert not take.motion.skeleton.exists[INDEX["neck"]]
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert_follows(figure, take, edited)


def test_an_edit_of_an_absent_joint_moves_what_hangs_below():
    figure = figures.make(absent=("spine2",))
    figures.animate(figure)
    take = take_of(figure)
    edited = take.motion.rotations.astype(np.float64)
    edited[START:STOP, INDEX["spine2"]] = rot.exp(np.array([0.3, 0.0, 0.0]))
    edited = take.motion.with_frames(edited, take.motion.root)
    put(figure, take, edited, mask=figures.columns(60, START, STOP, ("spine2",)))

    def head(motion):
        q = motion.rotations.astype(np.float64)
        return kinematics.forward(q, np.zeros((60, 3)), np.zeros((22, 3)))[0][:, INDEX["head"]]

    assert rot.angle(head(take_of(figure).motion), head(edited)).max() < 1e-5


def test_opposite_signs_of_a_quaternion_are_no_edit():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    report = put(figure, take, take.motion.with_frames(-take.motion.rotations, take.motion.root))
    assert report.keys == 0


# --- keys: density, reduction, borders -------------------------------------------------------------------------------


def test_baked_curves_stay_baked_and_sparse_ones_get_few_keys():
    baked = figures.make()
    figures.animate(baked)
    take = take_of(baked)
    edited = figures.bend(take.motion, START, STOP)
    dense = put(baked, take, edited, density="MATCH")
    assert dense.keys == (STOP - START) * (22 * 4 + 3)
    sparse = figures.make()
    figures.animate(sparse, every=10)
    take = take_of(sparse, np.arange(1.0, 52.0))
    edited = figures.bend(take.motion, START, STOP, amount=0.3)
    tolerance = 0.5
    report = put(sparse, take, edited, density="MATCH", tolerance=tolerance)
    assert 0 < report.keys < 0.6 * dense.keys
    back = take_of(sparse, take.frames)
    assert np.degrees(angles(back.motion, edited)).max() < 2 * tolerance
    assert np.abs(back.motion.root - edited.root).max() < np.radians(tolerance) * take.motion.skeleton.leg_length * 1.1
    coarse = put(sparse, take, edited, density="MATCH", tolerance=5.0)
    assert coarse.keys < report.keys


def test_every_nth_frame():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP), density="STEP", step=4)
    keys = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    times = keys[(sampling.bone_path("left_knee", "rotation_quaternion"), 0)]["co"][:, 0]
    assert times[(times > 20) & (times < 41)].tolist() == [24, 28, 32, 36, 40]
    assert report.keys == 5 * (22 * 4 + 3)


def test_reduced_curves_stay_within_the_tolerance_at_every_frame():
    times = np.arange(80.0)
    values = np.stack([np.sin(times / 5), np.exp(-((times - 40) ** 2) / 20)], axis=-1)
    slope = reduce.slopes(times, values)
    for tolerance in (0.1, 0.01, 0.001):
        chosen = reduce.knots(times, values, slope, tolerance, np.zeros(80, bool))
        curve = reduce.hermite(times[chosen], values[chosen], slope[chosen], times)
        assert np.abs(curve - values).max() <= tolerance
        assert len(chosen) < 60
    fixed = np.zeros(80, bool)
    fixed[17] = True
    assert 17 in reduce.knots(times, values, slope, 10.0, fixed)


def test_density_is_judged_around_the_gap():
    assert is_dense(np.arange(100.0), 20, 40) is True
    assert is_dense(np.concatenate([np.arange(0.0, 21), np.arange(40.0, 60)]), 20, 40) is True
    assert is_dense(np.arange(0.0, 100, 8), 20, 40) is False
    assert is_dense(np.array([1.0, 90.0]), 20, 40) is None
    assert is_dense(np.arange(0, 80, 0.8), 20, 40) is True


def test_fractional_keys_stay_where_they_are():
    figure = figures.make()
    figures.animate(figure, frames=80)
    action, slot = figure.animation_data.action, compat.assigned_slot(figure)
    for curve in compat.curves(action, slot):  # as glTF import leaves 30 fps keys in a 24 fps scene
        keys = Keys.load(curve)
        for name in ("co", "handle_left", "handle_right"):
            keys.columns[name][:, 0] *= 0.8
        keys.store(curve)
    old = {k: v["co"][:, 0].copy() for k, v in figures.snapshot(action, slot).items()}
    frames = np.arange(1.0, 61.0)
    take = take_of(figure, frames)
    edited = figures.bend(take.motion, START, STOP, amount=0.1, move=0.05)
    put(figure, take, edited, density="MATCH", style="REFINE")
    new = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, times in old.items():
        kept = new[key]["co"][:, 0]
        extra = [t for t in kept if np.abs(times - t).min() > 1e-4]
        assert set(extra) <= {np.float32(20), np.float32(41)}, key  # the borders, where the old curve is cut
        assert all(np.abs(kept - t).min() < 1e-4 for t in times)
    back = take_of(figure, frames)
    assert np.degrees(angles(back.motion, edited)).max() < 0.1


@pytest.mark.parametrize("interpolation", ["BEZIER", "LINEAR", "CONSTANT", "SINE"])
@pytest.mark.parametrize("density", ["ALL", "MATCH"])
def test_a_gap_inside_a_segment_leaves_both_sides_as_they_were(interpolation, density):
    figure = figures.make()
    source = figures.animate(figure, every=17, interpolation=interpolation)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP), density=density)
    new, new_slot = figure.animation_data.action, compat.assigned_slot(figure)
    times = np.concatenate([np.arange(-10.0, 21), np.arange(41.0, 80)])
    if interpolation != "SINE":  # an easing segment can be cut at whole frames only
        times = np.concatenate([np.linspace(-10, 20, 301), np.linspace(41, 80, 301)])
    if interpolation == "CONSTANT":
        times = times[np.abs(times - np.round(times)) > 1e-3]
    old, now = figures.sampled(source, slot, times), figures.sampled(new, new_slot, times)
    for key, values in old.items():
        assert np.abs(values - now[key]).max() < 1e-6 * max(1, np.abs(values).max()), key
    assert report.keys > 0


def test_a_gap_after_the_last_key_and_on_unkeyed_bones():
    figure = figures.make()
    source = figures.animate(figure, frames=10)
    slot = compat.assigned_slot(figure)
    for curve in list(compat.curves(source, slot)):
        if "head" in curve.data_path or "wrist" in curve.data_path:
            (source.fcurves if slot is None else compat._channelbag(source, slot, False).fcurves).remove(curve)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert_follows(figure, take, edited)
    assert_outside_unchanged(figure, source, slot, report, (20, 41))


def test_without_an_action_a_new_one_is_made():
    figure = figures.make()
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert figure.animation_data.action.name == report.action
    assert compat.action_animates(figure)
    assert_follows(figure, take, edited)


def test_several_runs_of_changed_frames_keep_what_lies_between():
    figure = figures.make()
    source = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, 10, 50, amount=0.2)
    mask = figures.columns(60, 10, 20) | figures.columns(60, 21, 22) | figures.columns(60, 30, 50)
    put(figure, take, edited, mask=mask, start=11, end=50, density="MATCH", style="REFINE")
    back = take_of(figure)
    assert angles(back.motion, edited)[mask[:, 0]].max() < 1e-5
    assert angles(back.motion, take.motion)[~mask[:, 0]].max() < 1e-6
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, old in before.items():
        still = np.isin(old["co"][:, 0], FRAMES[~mask[:, 0]])
        assert (after[key]["co"][still] == old["co"][still]).all()
        assert (after[key]["type"][still] == old["type"][still]).all()


def test_refining_from_the_first_to_the_last_frame():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, 0, 60, amount=0.1)
    put(figure, take, edited, mask=np.ones((60, 23), bool), start=1, end=60, density="MATCH")
    assert_follows(figure, take, edited)


def test_nothing_is_written_outside_start_and_end():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, 0, 60)
    put(figure, take, edited, mask=np.ones((60, 23), bool), start=30, end=35)
    back = take_of(figure)
    outside = (FRAMES < 30) | (FRAMES > 35)
    assert angles(back.motion, take.motion)[outside].max() < 1e-6
    assert angles(back.motion, edited)[~outside].max() < 1e-5


def test_a_whole_turn_inside_the_gap_does_not_spin_the_bone_at_its_end():
    figure = figures.make()
    figures.animate(figure, modes=("QUATERNION", "XYZ", "AXIS_ANGLE"), amount=0.2)
    take = take_of(figure)
    turned = take.motion.rotations.astype(np.float64)
    spin = np.zeros((STOP - START, 22, 3))
    spin[..., 1] = np.linspace(0, 2 * np.pi, STOP - START + 2)[1:-1, None]
    turned[START:STOP] = rot.multiply(turned[START:STOP], rot.exp(spin / 2))
    turned[START:STOP] = rot.multiply(turned[START:STOP], rot.exp(spin / 2))
    edited = take.motion.with_frames(turned, take.motion.root)
    put(figure, take, edited, mask=figures.columns(60, START, STOP, ("left_elbow", "right_elbow", "head", "spine3")))
    fine = take_of(figure, np.linspace(36, 44, 161)).motion
    steps = rot.angle(fine.rotations[1:].astype(float), fine.rotations[:-1].astype(float))
    assert np.degrees(steps.max()) < 30  # a spin would turn through 180 degrees and back


def test_what_cannot_be_split_is_left_to_the_bone_map():
    figure = figures.make()
    figures.animate(figure)
    roles.set_override(figure, "head", "")
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert "head" not in report.bones


# --- the 24 expectations ---------------------------------------------------------------------------------------------


def test_expectation_01_new_action_source_untouched_and_kept():
    figure = figures.make()
    source = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    before = figures.snapshot(source, slot)
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP))
    result = bpy.data.actions[report.action]
    assert result != source
    assert figure.animation_data.action == result
    assert source.use_fake_user
    assert result.use_fake_user
    after = figures.snapshot(source, slot)
    for key, columns in before.items():
        for name, column in columns.items():
            assert (column == after[key][name]).all()
    again = put(figure, take, take.motion, name="Second", assign=False)
    assert figure.animation_data.action == result
    assert again.action == "Second"


def test_expectation_03_only_selected_bones_are_written():
    figure = figures.make()
    source = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited, bones={"left_shoulder", "left_elbow"})
    assert set(report.bones) == {"left_shoulder", "left_elbow"}
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, columns in before.items():
        same = all(len(c) == len(after[key][n]) and (c == after[key][n]).all() for n, c in columns.items())
        assert same == ("left_shoulder" not in key[0] and "left_elbow" not in key[0])
    back = take_of(figure)
    for role in JOINTS:
        wanted = edited if role in report.bones else take.motion
        assert angles(back.motion, wanted)[:, INDEX[role]].max() < 1e-5
    assert (back.motion.root == take.motion.root).all()


@pytest.mark.parametrize("density", ["ALL", "MATCH", "STEP"])
@pytest.mark.parametrize("every", [1, 10])
def test_expectation_04_keys_and_curves_outside_are_unchanged(every, density):
    figure = figures.make()
    source = figures.animate(figure, every=every, modes=("QUATERNION", "XYZ"))
    slot = compat.assigned_slot(figure)
    frames = np.arange(1.0, 62.0)
    take = take_of(figure, frames)
    edited = figures.bend(take.motion, 21, 40, amount=1.0, move=3.0)
    report = put(figure, take, edited, mask=figures.columns(61, 21, 40), start=21, end=41, density=density, step=5)
    assert_outside_unchanged(figure, source, slot, report, (21, 41))


def test_expectation_04_automatic_handles_of_the_border_are_frozen():
    figure = figures.make()
    action = figures.animate(figure, every=10)
    path = sampling.bone_path("left_knee", "rotation_quaternion")
    take = take_of(figure)
    put(figure, take, figures.bend(take.motion, 21, 30, amount=1.5), mask=figures.columns(60, 21, 30), start=21, end=31)
    columns = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))[(path, 1)]
    border = np.isin(columns["co"][:, 0], (21, 31))
    assert (columns["handle_left_type"][border] == HANDLE["FREE"]).all()
    assert (columns["handle_right_type"][border] == HANDLE["FREE"]).all()
    # and the handles that animators get when Blender recalculates are still the old ones
    for curve in compat.curves(figure.animation_data.action, compat.assigned_slot(figure)):
        curve.update()
    times = np.concatenate([np.linspace(1, 21, 100), np.linspace(31, 60, 100)])
    old = figures.sampled(action, compat.assigned_slot(figure), times)
    new = figures.sampled(figure.animation_data.action, compat.assigned_slot(figure), times)
    for key, values in old.items():
        assert np.abs(values - new[key]).max() < 2e-6 * max(1, np.abs(values).max()), key


@pytest.mark.parametrize("density", ["ALL", "MATCH"])
def test_expectation_05_kept_keys_are_hit_exactly(density):
    figure = figures.make()
    source = figures.animate(figure, every=10)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    edited = figures.bend(take.motion, 12, 50, amount=0.8)
    keep = {bone.name: [21.0, 41.0] for bone in figure.pose.bones}
    del keep["right_knee"]
    put(figure, take, edited, mask=figures.columns(60, 12, 50), start=11, end=51, keep=keep, density=density)
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, old in before.items():
        if "right_knee" in key[0]:
            continue
        for frame in (21, 41):
            (a,), (b,) = np.flatnonzero(old["co"][:, 0] == frame), np.flatnonzero(after[key]["co"][:, 0] == frame)
            for name in ("co", "interpolation", "easing", "type"):
                assert (old[name][a] == after[key][name][b]).all()
    back = take_of(figure)
    for frame in (20, 40):
        assert angles(back.motion, take.motion)[frame, INDEX["left_knee"]] < 1e-6
        assert angles(back.motion, edited)[frame, INDEX["right_knee"]] < (1e-5 if density == "ALL" else 0.02)


def test_expectation_05_kept_keys_between_frames_are_hit_too():
    figure = figures.make()
    figures.animate(figure, every=10)
    for curve in compat.curves(figure.animation_data.action, compat.assigned_slot(figure)):
        curve.keyframe_points[3].co[0] = 30.5
        curve.update()
    take = take_of(figure)
    before = take_of(figure, [30.5])
    keep = {bone.name: [30.5] for bone in figure.pose.bones}
    put(figure, take, figures.bend(take.motion, START, STOP), keep=keep)
    assert angles(take_of(figure, [30.5]).motion, before.motion).max() < 1e-6


def test_expectation_07_locked_muted_and_hidden_are_honoured():
    figure = figures.make()
    source = figures.animate(figure, modes=("XYZ",))
    slot = compat.assigned_slot(figure)
    curves = {(c.data_path, c.array_index): c for c in compat.curves(source, slot)}

    def path(bone):
        return sampling.bone_path(bone, "rotation_euler")

    figure.pose.bones["left_knee"].lock_rotation = (False, True, True)
    curves[(path("right_knee"), 0)].lock = True
    curves[(path("right_knee"), 1)].mute = True
    curves[(path("right_knee"), 2)].hide = True
    curves[(path("left_ankle"), 0)].group.lock = True
    curves[(path("right_ankle"), 0)].group.mute = True
    compat.hide(figure.pose.bones["head"], True)
    figure.pose.bones["pelvis"].lock_location = (True, False, False)
    whole = ("right_knee", "left_ankle", "right_ankle", "head")
    untouched = {(path(bone), i) for bone in whole for i in range(3)}
    untouched |= {(path("left_knee"), 1), (path("left_knee"), 2), (sampling.bone_path("pelvis", "location"), 0)}
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP))
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, old in before.items():
        same = all(len(c) == len(after[key][n]) and (c == after[key][n]).all() for n, c in old.items())
        assert same == (key in untouched), key
    assert any("Hidden bones" in note and "head" in note for note in report.notes)
    assert any("Locked" in note and "left_ankle" in note for note in report.notes)
    assert curves[(path("right_knee"), 1)].mute


def test_expectation_07_locked_axes_of_a_quaternion_keep_their_angle():
    figure = figures.make()
    figures.animate(figure, amount=0.3)
    bone = figure.pose.bones["left_elbow"]
    bone.lock_rotation = (False, True, False)
    bone.lock_rotations_4d = False
    other = figure.pose.bones["right_elbow"]
    other.lock_rotation, other.lock_rotations_4d, other.lock_rotation_w = (False, True, False), True, False
    source = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    take = take_of(figure)
    put(figure, take, figures.bend(take.motion, START, STOP))
    result = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for i, locked in enumerate((False, False, True, False)):  # w x y z, each on its own
        key = (sampling.bone_path("right_elbow", "rotation_quaternion"), i)
        assert (
            len(source[key]["co"]) == len(result[key]["co"]) and (source[key]["co"] == result[key]["co"]).all()
        ) == locked
    back = take_of(figure)
    at = take.binding.bones.index("left_elbow")
    old = channels.from_quaternion(take.binding.basis[:, at], "XYZ", np.zeros(3))
    new = channels.from_quaternion(back.binding.basis[:, at], "XYZ", np.zeros(3))
    assert np.abs(new - old)[:, 1].max() < 1e-5
    assert np.abs(new - old)[START:STOP, 0].max() > 0.01


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ", "ZXY"])
def test_expectation_08_rotation_modes_stay_and_nothing_flips(mode):
    figure = figures.make()
    figures.animate(figure, modes=(mode,), amount=0.4)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP, amount=0.3)
    put(figure, take, edited)
    assert all(bone.rotation_mode == mode for bone in figure.pose.bones)
    values = figures.sampled(figure.animation_data.action, compat.assigned_slot(figure), FRAMES)
    for (path, _), channel in values.items():
        if "rotation" in path:
            assert np.abs(np.diff(channel)).max() < (0.6 if mode == "AXIS_ANGLE" else 0.35), path
    between = take_of(figure, FRAMES[:-1] + 0.5).motion
    whole = take_of(figure).motion
    step = rot.angle(whole.rotations[:-1].astype(float), whole.rotations[1:].astype(float))
    half = rot.angle(whole.rotations[:-1].astype(float), between.rotations.astype(float))
    assert (half < step + 0.02).all()


def _place(kind, figure):
    if kind == "scaled":
        figure.scale = (0.01,) * 3
    if kind == "rotated":
        figure.rotation_euler = (0.3, -1.2, 2.5)
    if kind == "moved":
        figure.location = (12, -7, 3)
    if kind == "y_up":
        figure.rotation_euler, figure.scale = (np.pi / 2, 0, 0), (0.01,) * 3
    if kind == "parented":
        parent = bpy.data.objects.new("parent", None)
        bpy.context.scene.collection.objects.link(parent)
        parent.rotation_euler, parent.scale, parent.location = (0.5, 0, 1), (2, 2, 2), (1, 2, 3)
        figure.parent = parent


@pytest.mark.parametrize("kind", ["scaled", "rotated", "moved", "y_up", "parented"])
def test_expectation_09_placed_rigs_give_the_same_local_result(kind):
    results = []
    for placed in (False, True):
        figure = figures.make(sideways=True)
        figures.animate(figure)
        if placed:
            _place(kind, figure)
            bpy.context.view_layer.update()
        before = tuple(figure.location), tuple(figure.rotation_euler), tuple(figure.scale)
        take = take_of(figure)
        edited = figures.bend(take.motion, START, STOP, move=0.1 * take.motion.skeleton.leg_length)
        put(figure, take, edited, mask=figures.columns(60, START, STOP))
        assert_follows(figure, take, edited)
        assert (tuple(figure.location), tuple(figure.rotation_euler), tuple(figure.scale)) == before
        values = figures.sampled(figure.animation_data.action, compat.assigned_slot(figure), FRAMES)
        results.append((take, {k: v for k, v in values.items() if "rotation" in k[0] and "pelvis" not in k[0]}))
    (plain, a), (other, b) = results
    for key, values in a.items():
        assert np.abs(values - b[key]).max() < 1e-5, key
    inner = list(range(1, 22))
    assert angles(plain.motion, other.motion)[:, inner].max() < 1e-5
    ratio = other.motion.skeleton.offsets[1:] / plain.motion.skeleton.leg_length
    assert np.abs(ratio).max() > 0


@pytest.mark.parametrize("carrier", ["pelvis", "root", ""])
def test_expectation_10_root_motion_stays_where_it_was(carrier):
    figure = figures.make()
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    root = bones.new("root")
    root.head, root.tail = (0, 0, 0), (0, 0.3, 0)
    bones["pelvis"].parent = root
    bpy.ops.object.mode_set(mode="OBJECT")
    source = figures.animate(figure, root=carrier)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    assert take.binding.horizontal.bone == take.binding.vertical.bone == carrier
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert_follows(figure, take, edited)
    moved = {
        key[0]
        for key in figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
        if key[0].endswith("location")
    }
    assert moved == {sampling.bone_path(carrier, "location") if carrier else "location"}
    assert carrier in report.bones
    assert_outside_unchanged(figure, source, slot, report, (20, 41))


def test_expectation_10_a_travelling_root_bone_keeps_the_path_and_the_hips_their_height():
    figure = figures.make()
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    root = bones.new("root")
    root.head, root.tail = (0, 0, 0), (0, 0.3, 0)
    bones["pelvis"].parent = root
    bpy.ops.object.mode_set(mode="OBJECT")
    action = figures.animate(figure, root="pelvis")
    slot = compat.assigned_slot(figure)
    curve = compat.new_curve(action, slot, sampling.bone_path("root", "location"), 1, "root")
    curve.keyframe_points.add(60)
    curve.keyframe_points.foreach_set("co", np.stack([FRAMES, FRAMES * 0.05], -1).astype(np.float32).ravel())
    curve.update()
    take = take_of(figure)
    assert (take.binding.horizontal.bone, take.binding.vertical.bone) == ("root", "pelvis")
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert_follows(figure, take, edited)


def test_expectation_10_unselected_root_bone_is_left_and_said():
    figure = figures.make()
    figures.animate(figure, root="")
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP), bones={"left_knee"})
    assert report.bones == ("left_knee",)
    assert (take_of(figure).motion.root == take.motion.root).all()


def test_expectation_11_constraints_and_drivers_stay_and_ik_is_refused_in_words():
    figure = figures.make()
    figures.animate(figure)
    limit = figure.pose.bones["spine3"].constraints.new("LIMIT_ROTATION")
    limit.use_limit_x, limit.min_x, limit.max_x, limit.owner_space = True, -0.2, 0.2, "LOCAL"
    driver = figure.driver_add('pose.bones["head"].rotation_quaternion', 2)
    driver.driver.expression = "0.1"
    ik = figure.pose.bones["left_ankle"].constraints.new("IK")
    ik.chain_count = 3
    ik.target = bpy.data.objects.new("target", None)
    bpy.context.scene.collection.objects.link(ik.target)
    take = take_of(figure)
    assert not take.binding.direct
    edited = figures.bend(take.motion, START, STOP, amount=0.1)
    actions = len(bpy.data.actions)
    with pytest.raises(MotionError, match=r"'left_ankle'|'left_hip'|'left_knee'") as problem:
        put(figure, take, edited)
    assert "IK" in str(problem.value)
    assert len(bpy.data.actions) == actions
    arms = {f"{side}_{part}" for side in ("left", "right") for part in ("collar", "shoulder", "elbow", "wrist")}
    put(figure, take, edited, bones={*arms, "head", "neck"})
    back = take_of(figure)
    for role in arms | {"neck"}:
        assert angles(back.motion, edited)[:, INDEX[role]].max() < 1e-4, role
    assert [c.type for c in figure.pose.bones["left_ankle"].constraints] == ["IK"]
    assert limit.influence == 1
    assert len(figure.animation_data.drivers) == 1
    ik.mute = True
    copy = figure.pose.bones["right_wrist"].constraints.new("COPY_ROTATION")
    copy.target, copy.subtarget = figure, "head"
    with pytest.raises(MotionError, match="'right_wrist' is driven by its constraint 'Copy Rotation'"):
        write.check(bpy.context, figure, take.binding.roles)
    write.check(bpy.context, figure, take.binding.roles, {"left_wrist"})


def test_expectation_11_curve_modifiers_are_refused_in_words():
    figure = figures.make()
    action = figures.animate(figure)
    curve = next(iter(compat.curves(action, compat.assigned_slot(figure))))
    modifier = curve.modifiers.new("NOISE")
    found = roles.detect(figure)
    with pytest.raises(MotionError, match="has F-curve modifiers"):
        write.check(bpy.context, figure, found)
    modifier.mute = True
    write.check(bpy.context, figure, found)


def test_expectation_12_bones_without_a_role_are_left_alone():
    figure = figures.make()
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    bones = figure.data.edit_bones
    for name, parent in (("finger", "left_wrist"), ("jaw", "head"), ("sword", "right_wrist"), ("ponytail", "head")):
        bone = bones.new(name)
        bone.head, bone.tail, bone.parent = bones[parent].tail, bones[parent].tail + bones[parent].vector, bones[parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    source = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    take = take_of(figure)
    put(figure, take, figures.bend(take.motion, START, STOP))
    before = figures.snapshot(source, slot)
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, columns in before.items():
        if any(name in key[0] for name in ("finger", "jaw", "sword", "ponytail")):
            for name, column in columns.items():
                assert (column == after[key][name]).all()


def test_expectation_13_library_overrides_are_written_and_links_refused(tmp_path):
    figure = figures.make()
    figures.animate(figure)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, wanted):
        wanted.objects = ["Figure"]
    linked = wanted.objects[0]
    bpy.context.scene.collection.objects.link(linked)
    bpy.context.view_layer.update()
    with pytest.raises(MotionError, match="make a library override"):
        write.check(bpy.context, linked, roles.detect(linked))
    own = linked.override_create(remap_local_usages=True)
    take = take_of(own)
    edited = figures.bend(take.motion, START, STOP)
    report = put(own, take, edited)
    assert not bpy.data.actions[report.action].library
    assert_follows(own, take, edited)


def test_expectation_14_slots_and_nla():
    figure = figures.make()
    action = figures.animate(figure)
    slot = compat.assigned_slot(figure)
    if compat.has_slots():
        other = bpy.data.objects.new("Other", None)
        bpy.context.scene.collection.objects.link(other)
        second = action.slots.new("OBJECT", "Other")
        compat.new_curve(action, second, "location", 0, "Object Transforms").keyframe_points.add(1)
        compat.assign(other, action, second)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    report = put(figure, take, edited)
    assert compat.action_animates(figure)
    assert_follows(figure, take, edited)
    if compat.has_slots():
        copy = bpy.data.actions[report.action]
        assert [s.identifier for s in copy.slots] == [s.identifier for s in action.slots]
        assert figure.animation_data.action_slot.identifier == slot.identifier
        assert other.animation_data.action == action
    found = take.binding.roles
    data = figure.animation_data
    track = data.nla_tracks.new()
    strip = track.strips.new("base", 1, action)
    write.check(bpy.context, figure, found)
    data.action_blend_type = "ADD"
    with pytest.raises(MotionError, match="blended over NLA strips"):
        write.check(bpy.context, figure, found)
    data.action_blend_type = "REPLACE"
    track.is_solo = True
    with pytest.raises(MotionError, match="solo"):
        write.check(bpy.context, figure, found)
    track.is_solo = False
    data.action = None
    strip.select, track.select = True, True
    data.use_tweak_mode = True
    assert data.use_tweak_mode
    with pytest.raises(MotionError, match="tweak mode"):
        write.check(bpy.context, figure, found)


def test_expectation_14_an_action_over_nla_strips_is_read_and_written():
    figure = figures.make()
    below = figures.animate(figure, seed=5)
    track = figure.animation_data.nla_tracks.new()
    track.strips.new("base", 1, below)
    figures.animate(figure, seed=1)
    take = take_of(figure)
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert_follows(figure, take, edited)


def test_expectation_15_scene_state_is_unchanged():
    figure = figures.make()
    figures.animate(figure)
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 5, 48
    scene.render.fps, scene.render.fps_base = 30, 1.001
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="POSE")
    for bone in figure.pose.bones:
        compat.select(bone, bone.name.startswith("left"))
    figure.pose.bones["head"].constraints.new("LIMIT_ROTATION")  # so that Blender has to step through the frames
    scene.frame_set(17, subframe=0.25)

    def state():
        return (
            scene.frame_current, round(scene.frame_subframe, 6), scene.frame_start, scene.frame_end, scene.render.fps,
            scene.render.fps_base, figure.mode, bpy.context.view_layer.objects.active,
            tuple(compat.is_selected(b) for b in figure.pose.bones), figure.data.pose_position,
        )  # fmt: skip

    before = state()
    take = take_of(figure, FRAMES + 0.5)
    assert state() == before
    edited = figures.bend(take.motion, START, STOP)
    put(figure, take, edited)
    assert state() == before
    assert_follows(figure, take, edited)


def test_expectation_15_rest_position_does_not_hide_the_motion():
    figure = figures.make()
    figures.animate(figure)
    free = take_of(figure).motion
    figure.data.pose_position = "REST"
    figure.pose.bones["head"].constraints.new("LIMIT_ROTATION")
    assert angles(take_of(figure).motion, free).max() < 1e-6
    assert figure.data.pose_position == "REST"


def test_expectation_16_ten_thousand_frames():
    figure = figures.make()
    figures.animate(figure, frames=10000)
    frames = np.arange(1.0, 10001.0)
    take = take_of(figure, frames)
    assert len(take.motion) == 10000
    edited = figures.bend(take.motion, 1, 9999, amount=0.05)
    report = put(
        figure, take, edited, mask=figures.columns(10000, 1, 9999), start=1, end=10000, density="MATCH", style="REFINE"
    )
    assert report.keys == 9998 * (22 * 4 + 3)
    assert_follows(figure, take, edited)


def test_expectation_21_the_largest_change_is_reported():
    figure = figures.make()
    figures.animate(figure)
    take = take_of(figure)
    turned = take.motion.rotations.astype(np.float64)
    turned[25:30, INDEX["left_elbow"]] = rot.multiply(
        turned[25:30, INDEX["left_elbow"]], rot.exp(np.array([0.0, 0.0, np.radians(30)]))
    )
    mask = figures.columns(60, START, STOP)
    report = put(figure, take, take.motion.with_frames(turned, take.motion.root), mask=mask)
    assert report.largest_degrees == pytest.approx(30, abs=1e-3)
    forearm = np.linalg.norm(take.motion.skeleton.offsets[INDEX["left_wrist"]])
    assert report.largest_cm <= 100 * 2 * forearm * np.sin(np.radians(15)) + 1e-3
    lifted = take.motion.with_frames(take.motion.rotations, take.motion.root + np.float32([0, 0.07, 0]))
    report = put(figure, take, lifted, mask=mask)
    assert report.largest_cm == pytest.approx(7, abs=1e-3)
    assert report.largest_degrees == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("density", ["ALL", "MATCH", "STEP"])
def test_expectation_24_written_keys_are_typed_generated(density):
    figure = figures.make()
    figures.animate(figure, every=10)
    take = take_of(figure)
    report = put(figure, take, figures.bend(take.motion, START, STOP), density=density, step=3)
    keys = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    total = 0
    for columns in keys.values():
        times, made = columns["co"][:, 0], columns["type"] == GENERATED
        assert ((times >= 20) & (times <= 41))[made].all()
        assert made[(times > 20) & (times < 41)].all()
        total += int(made.sum())
    assert total == report.keys


# --- Rigify ----------------------------------------------------------------------------------------------------------


def _rigify_motion(rig, frames=30):
    """Keys on FK controls, so that there is something to read."""
    random = np.random.default_rng(3)
    action, slot = compat.new_action("Rigify", rig)
    times = np.arange(1, frames + 1, 5, dtype=float)
    for name in sorted(roles.detect(rig).bones()):
        bone = rig.pose.bones[name]
        path = sampling.bone_path(name, channels.path_of(bone.rotation_mode))
        turn = rot.exp(0.25 * np.sin(times[:, None] / 6 + random.uniform(0, 6, 3)))
        anchor = np.array(channels.DEFAULTS.get(bone.rotation_mode, (0.0, 0.0, 0.0)))
        values = channels.from_quaternion(turn, bone.rotation_mode, anchor)
        for i in range(values.shape[1]):
            curve = compat.new_curve(action, slot, path, i, name)
            curve.keyframe_points.add(len(times))
            curve.keyframe_points.foreach_set("co", np.stack([times, values[:, i]], -1).astype(np.float32).ravel())
            curve.keyframe_points.foreach_set("interpolation", np.full(len(times), INTERPOLATION["BEZIER"], np.int32))
            curve.update()
    compat.assign(rig, action, slot)
    return action, slot


def test_rigify_reads_the_skeleton_and_writes_controls_until_it_fits(rigify):
    source, slot = _rigify_motion(rigify)
    frames = np.arange(1.0, 31.0)
    take = take_of(rigify, frames)
    assert not take.binding.direct
    edited = figures.bend(take.motion, 8, 22, amount=0.3, move=0.2)
    report = put(rigify, take, edited, mask=figures.columns(30, 8, 22), start=8, end=23)
    assert "torso" in report.bones
    assert "thigh_fk.L" in report.bones
    assert not any(b.startswith(("ORG-", "DEF-", "MCH-")) for b in report.bones)
    back = take_of(rigify, frames)
    leg = take.motion.skeleton.leg_length
    assert angles(back.motion, edited).max() < 2e-5
    assert np.abs(back.motion.root - edited.root).max() < 1e-5 * leg
    assert_outside_unchanged(rigify, source, slot, report, (8, 23))
    names = {b.name for b in rigify.pose.bones}
    assert {"torso", "ORG-spine"} <= names


def test_rigify_limb_in_ik_is_refused_in_words(rigify):
    _rigify_motion(rigify, frames=10)
    found = roles.detect(rigify)
    rigify.pose.bones["thigh_parent.L"]["IK_FK"] = 0.0
    with pytest.raises(MotionError, match=r"The left leg is in IK.*IK-FK of 'thigh_parent.L' to 1"):
        write.check(bpy.context, rigify, found)
    write.check(bpy.context, rigify, found, {"upper_arm_fk.L", "forearm_fk.L", "thigh_fk.R"})
    rigify.pose.bones["thigh_parent.L"]["IK_FK"] = 1.0
    rigify.pose.bones["upper_arm_parent.R"]["IK_FK"] = 0.5
    with pytest.raises(MotionError, match=r"The right arm is in IK"):
        write.check(bpy.context, rigify, found)
