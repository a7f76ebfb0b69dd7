"""NLA tweak mode: the strip gets the take, at its place in time, and everything else of the stack stays as it was."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest
from operator_support import (
    armature_now,
    bone_of,
    changed_frames,
    figure,
    frames_of,
    meanwhile,
    refused,
    same,
    select,
    select_keys,
    state,
)

from mmdm_addon import compat, nla, timeline
from mmdm_addon.operators import applying
from mmdm_addon.rig.read import read
from mmdm_addon.ui.fill_gap import fill_preview

pytestmark = pytest.mark.usefixtures("standin")
mmdm = bpy.ops.mmdm
OPERATORS = {
    "fill_gap": ("Source fill", {"frame_start": 20, "frame_end": 40}),
    "refine_jitter": ("Source refined", {"frame_start": 20, "frame_end": 40}),
    "complete_bones": ("Source completed", {"frame_start": 20, "frame_end": 40}),
}


def tweaking(shift: float = 10, settings=(), **options) -> bpy.types.Object:
    """The figure with an own action of two keys, and a strip in tweak mode, so many frames later than its action."""
    armature = figure(**options)
    data = armature.animation_data
    source = data.action
    figures.animate(armature, frames=2).name = "Own"
    own, slot = data.action, compat.assigned_slot(armature)
    strip = data.nla_tracks.new().strips.new("Strip", round(1 + shift), source)
    if shift != round(shift):
        strip.frame_start_ui = 1 + shift
    for name, value in dict(settings).items():
        setattr(strip, name, value)
    compat.assign(armature, own, slot)
    data.use_tweak_mode = True
    assert data.action == source
    return armature


def strip_of(armature, name="Strip"):
    return nla.find(armature, name)


def stack(armature) -> list[tuple]:
    """Everything about the NLA but which action plays."""
    data = armature.animation_data
    names = ("name", "frame_start", "frame_end", "action_frame_start", "action_frame_end", "scale", "repeat")
    strips = [tuple(getattr(s, n) for n in (*names, "select", "active", "use_sync_length", "mute"))
              for t in data.nla_tracks for s in t.strips]  # fmt: skip
    tracks = [(t.name, t.select, t.is_solo, t.mute, t == data.nla_tracks.active) for t in data.nla_tracks]
    return [strips, tracks, data.use_tweak_mode, data.action_tweak_storage.name]


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shift", [10, -40])
def test_expectation_14_the_same_keys_are_written_as_without_nla_and_the_stack_stays(name, shift):
    operator, (made, gap) = getattr(mmdm, name), OPERATORS[name]
    bones = ("left_shoulder", "left_elbow")
    armature = figure()
    select(armature, *bones)
    assert operator(**gap) == {"FINISHED"}
    expected = state(armature)[1]

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    armature = tweaking(shift)
    select(armature, *bones)
    before, around = state(armature), stack(armature)
    assert operator(**{key: frame + shift for key, frame in gap.items()}) == {"FINISHED"}
    after = state(armature)
    assert after[0] == made
    assert strip_of(armature).action == armature.animation_data.action
    assert stack(armature) == around
    touched = changed_frames(before, after)
    assert {bone_of(key) for key in touched} == set(bones)
    assert frames_of(touched) <= set(range(20, 41))
    for key, columns in expected.items():
        np.testing.assert_array_equal(after[1][key]["co"][:, 0], columns["co"][:, 0])
        np.testing.assert_allclose(after[1][key]["co"][:, 1], columns["co"][:, 1], atol=1e-5)
    source = bpy.data.actions["Source"]
    assert source.use_fake_user
    kept = figures.snapshot(source, applying.find_slot(source, armature.mmdm.takes[0].slot))
    for key, columns in before[1].items():
        for name, column in columns.items():
            np.testing.assert_array_equal(kept[key][name], column)

    armature.animation_data.use_tweak_mode = False
    assert armature.animation_data.action.name == "Own"
    assert strip_of(armature).action.name == made
    assert compat.strip_slot(strip_of(armature)) == applying.find_slot(
        bpy.data.actions[made], armature.mmdm.takes[1].slot
    )


def test_frames_are_the_scenes_in_the_selection_the_sentence_and_the_list():
    armature = tweaking(10)
    select_keys(armature, range(25, 32))  # as the Dope Sheet shows them: 35-41
    assert timeline.selected_columns(timeline.pose_keys(armature).bones.values()).tolist() == list(range(35, 42))
    assert fill_preview(bpy.context) == "Writes 35-41, keeps 34, 42"
    before = state(armature)
    assert mmdm.fill_gap() == {"FINISHED"}
    assert frames_of(changed_frames(before, state(armature))) <= set(range(25, 32))
    assert armature.mmdm.takes[1].detail.startswith("Fill 35-41;")
    refused(mmdm.fill_gap, "Nothing is keyed at or before frame 5; start at frame 11", frame_start=5, frame_end=30)


def test_a_strip_between_frames_keeps_its_curve_outside_and_is_written_on_whole_frames():
    armature = tweaking(10.25, every=10)
    assert nla.shift(armature) == pytest.approx(10.25)
    source, slot = armature.animation_data.action, compat.assigned_slot(armature)
    outside = np.concatenate([np.linspace(1, 19.5, 50), np.linspace(41, 51, 30)])
    before = figures.sampled(source, slot, outside)
    assert mmdm.fill_gap(frame_start=31, frame_end=51, keep="NONE", density="ALL") == {"FINISHED"}
    result, slot = armature.animation_data.action, compat.assigned_slot(armature)
    for key, values in figures.sampled(result, slot, outside).items():
        np.testing.assert_allclose(values, before[key], atol=1e-5, err_msg=str(key))
    times = timeline.pose_keys(armature).bones["left_elbow"].frames
    assert set(range(32, 51)) <= set(np.round(times, 3))


def test_kept_keys_inside_the_gap_are_hit():
    armature = tweaking(10, every=10)  # in the scene on 11, 21, 31, 41, 51, 61
    before = read(bpy.context, armature, np.array([31.0, 41.0])).motion
    assert mmdm.fill_gap(frame_start=21, frame_end=51, keep="KEYS") == {"FINISHED"}
    after = read(bpy.context, armature, np.array([31.0, 41.0])).motion
    np.testing.assert_array_equal(after.rotations, before.rotations)
    np.testing.assert_array_equal(after.root, before.root)


def test_takes_switch_in_tweak_mode_and_outside_of_it_where_they_belong():
    armature = tweaking(10)
    before = state(armature)
    mmdm.fill_gap(frame_start=30, frame_end=50, takes=2)
    names, around = [take.action.name for take in armature.mmdm.takes], stack(armature)
    assert [take.strip for take in armature.mmdm.takes] == ["Strip"] * 3
    for index in (2, 0, 1, 0):
        assert mmdm.take_switch(index=index) == {"FINISHED"}
        assert armature.animation_data.action.name == strip_of(armature).action.name == names[index]
        assert stack(armature) == around
    assert same(state(armature), before)

    armature.animation_data.use_tweak_mode = False
    for index in (1, 0, 2):
        assert mmdm.take_switch(index=index) == {"FINISHED"}
        assert strip_of(armature).action.name == names[index]
        assert armature.animation_data.action.name == "Own"
    strip_of(armature).name = "Renamed"
    refused(mmdm.take_switch, "The NLA strip 'Strip' of 'Source' is gone; choose another take", index=0)


def test_takes_of_the_own_action_are_refused_in_tweak_mode_and_the_other_way_round():
    armature = tweaking(10)
    mmdm.fill_gap(frame_start=30, frame_end=50)
    data = armature.animation_data
    data.use_tweak_mode = False
    for curve in compat.curves(data.action, compat.assigned_slot(armature)):
        curve.keyframe_points.insert(60, 0.5)
    mmdm.fill_gap(frame_start=2, frame_end=60)
    assert [take.strip for take in armature.mmdm.takes] == ["Strip", "Strip", "", ""]
    data.use_tweak_mode = True
    refused(mmdm.take_switch, "'Own' belongs to the armature's own action; leave tweak mode", index=2)
    data.use_tweak_mode = False
    other = data.nla_tracks.new().strips.new("Other", 200, bpy.data.actions["Own"])
    data.nla_tracks.active.select = other.select = True
    strip_of(armature).select = False
    data.use_tweak_mode = True
    assert nla.home(armature) == "Other"
    refused(mmdm.take_switch, "'Source' belongs to the NLA strip 'Strip'; leave tweak mode", index=0)


def test_deleting_takes_keeps_what_the_strip_plays():
    armature = tweaking(10)
    mmdm.fill_gap(frame_start=30, frame_end=50, takes=2)
    armature.animation_data.use_tweak_mode = False
    assert mmdm.takes_clear() == {"FINISHED"}
    assert {action.name for action in bpy.data.actions} == {"Own", "Source", "Source fill 1"}
    assert bpy.data.actions["Source"].use_fake_user
    assert strip_of(armature).action.name == "Source fill 1"


def test_of_two_strips_with_one_action_only_the_tweaked_one_changes():
    armature = tweaking(10)
    data = armature.animation_data
    data.use_tweak_mode = False
    other = data.nla_tracks.new().strips.new("Later", 101, bpy.data.actions["Source"])
    other.select, data.nla_tracks.active = False, data.nla_tracks[0]
    data.use_tweak_mode = True
    assert nla.home(armature) == "Strip"
    mmdm.fill_gap(frame_start=30, frame_end=50)
    assert other.action.name == "Source"
    assert strip_of(armature).action.name == "Source fill"
    assert (other.frame_start, other.frame_end, other.use_sync_length) == (101, 160, True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": 2.0}, "is scaled, repeated, reversed or has animated time"),
        ({"repeat": 2.0}, "is scaled, repeated, reversed"),
        ({"use_reverse": True}, "is scaled, repeated, reversed"),
        ({"use_animated_time": True}, "animated time"),
        ({"blend_type": "ADD"}, "is blended with what lies below; set its blending to Replace"),
        ({"blend_in": 5.0}, "is blended with what lies below"),
        ({"use_animated_influence": True}, "is blended with what lies below"),
    ],
)
def test_what_has_no_frame_for_frame_counterpart_is_refused_in_words(settings, words):
    armature = tweaking(10, settings)
    before, around = state(armature), stack(armature)
    for name, (_, gap) in OPERATORS.items():
        assert not getattr(mmdm, name).poll()
        with pytest.raises(RuntimeError, match=f"The NLA strip 'Strip' .*{words}"):
            getattr(mmdm, name)(**gap)
    assert same(state(armature), before)
    assert stack(armature) == around


def test_a_locked_track_and_a_solo_one_are_refused_in_words():
    armature = tweaking(10)
    track = armature.animation_data.nla_tracks[0]
    track.lock = True
    refused(mmdm.fill_gap, "The NLA track 'NlaTrack' is locked", frame_start=30, frame_end=50)
    track.lock = False
    armature.animation_data.use_tweak_mode = False
    other = armature.animation_data.nla_tracks.new()
    armature.animation_data.nla_tracks.active = track
    armature.animation_data.use_tweak_mode = True
    other.is_solo = True
    refused(mmdm.fill_gap, "Another NLA track plays solo", frame_start=30, frame_end=50)


def test_one_undo_step_takes_the_result_back():
    tweaking(10)
    bpy.ops.ed.undo_push(message="before")
    before, around = state(armature_now()), stack(armature_now())
    assert mmdm.fill_gap("EXEC_DEFAULT", True, frame_start=30, frame_end=50) == {"FINISHED"}
    bpy.ops.ed.undo()
    assert same(state(armature_now()), before)
    assert stack(armature_now()) == around
    assert {action.name for action in bpy.data.actions} == {"Own", "Source"}


def test_a_failure_while_writing_leaves_nothing(monkeypatch):
    armature = tweaking(10)
    before, around = state(armature), stack(armature)
    monkeypatch.setattr(applying, "keep_selection", lambda *_: 1 / 0)
    refused(mmdm.fill_gap, "unexpected problem", frame_start=30, frame_end=50)
    assert same(state(armature), before)
    assert stack(armature) == around
    assert len(bpy.data.actions) == 2
    assert len(armature.mmdm.takes) == 0


def test_where_blender_enters_another_strip_the_old_action_is_put_back():
    armature = tweaking(10)
    data = armature.animation_data
    other = data.nla_tracks.new().strips.new("Other", 1, bpy.data.actions["Own"])  # the active track from now on
    copy, slot = compat.copy_action(data.action, compat.assigned_slot(armature), "Copy")
    if data.nla_tracks.active == data.nla_tracks[0]:
        data.nla_tracks.active = data.nla_tracks[1]
    with pytest.raises(nla.MotionError, match="did not go back to tweaking the NLA strip 'Strip'; select it alone"):
        nla.assign(armature, copy, slot)
    assert strip_of(armature).action.name == "Source"
    assert other.action.name == "Own"
    assert data.action.name == "Own"
    assert strip_of(armature).use_sync_length


@pytest.mark.parametrize("what", ["leave", "move"])
def test_what_changes_its_place_meanwhile_drops_the_result(what, monkeypatch):
    armature = tweaking(10)

    def change(_call):
        armature.animation_data.use_tweak_mode = False
        if what == "move":
            strip_of(armature).frame_start_ui += 5
            armature.animation_data.use_tweak_mode = True

    meanwhile(monkeypatch, change)
    refused(mmdm.fill_gap, "changed while the engine worked", frame_start=30, frame_end=50)
    assert strip_of(armature).action.name == "Source"
    assert len(bpy.data.actions) == 2


def test_a_saved_file_still_switches(tmp_path):
    armature = tweaking(10)
    mmdm.fill_gap(frame_start=30, frame_end=50)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "tweaked.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "tweaked.blend"))
    armature = armature_now()
    assert mmdm.take_switch(index=0) == {"FINISHED"}
    assert strip_of(armature).action.name == "Source"
