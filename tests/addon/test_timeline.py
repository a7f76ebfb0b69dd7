"""What a selection means: gaps, kept keys, ranges, and which frames are poses. Needs no Blender."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdm_addon import timeline
from mmdm_addon.engine_link import MotionError
from mmdm_addon.timeline import BoneKeys, plan_fill, plan_range


def keys(frames, selected=()):
    frames = np.asarray(sorted(frames), np.float64)
    return BoneKeys(frames, np.isin(frames, np.asarray(list(selected), np.float64)))


def gaps(plan):
    return [(g.start, g.end) for g in plan.gaps]


BAKED = range(1, 101)


def test_a_run_of_selected_keys_is_replaced_and_its_neighbours_are_the_borders():
    plan = plan_fill({"hip": keys(BAKED, range(31, 60))}, ["hip"])
    assert gaps(plan) == [(30, 60)]
    assert plan.gaps[0].frames.tolist() == list(range(31, 60))
    assert plan.keep == {}
    assert plan.sentence == "writes 31-59, keeps 30, 60"


def test_two_bad_parts_of_a_baked_take_are_two_gaps_and_what_is_between_stays():
    plan = plan_fill({"hip": keys(BAKED, [*range(31, 40), *range(61, 70)])}, ["hip"])
    assert gaps(plan) == [(30, 40), (60, 70)]
    assert plan.sentence == "writes 31-39 and 61-69, keeps 30, 40, 60, 70"


def test_the_space_between_two_selected_columns_is_filled_and_isolated_keys_inside_stay():
    plan = plan_fill({"hip": keys([10, 30, 45, 60, 80], [30, 60])}, ["hip"])
    assert gaps(plan) == [(30, 60)]
    assert plan.keep == {"hip": (45,)}
    assert plan.sentence == "writes 31-59, keeps 30, 45, 60"


def test_three_selected_columns_are_two_gaps():
    plan = plan_fill({"hip": keys([10, 30, 45, 60], [30, 45, 60])}, ["hip"])
    assert gaps(plan) == [(30, 45), (45, 60)]
    assert plan.sentence == "writes 31-44 and 46-59, keeps 30, 45, 60"


def test_keys_inside_are_kept_per_bone_and_baked_runs_replaced():
    plan = plan_fill(
        {"hip": keys([30, 45, 60], [30, 60]), "arm": keys([30, 40, 41, 42, 50, 60]), "leg": keys([30, 60])},
        ["hip", "arm", "leg"],
    )
    assert plan.keep == {"hip": (45,), "arm": (50,)}
    assert plan.sentence == "writes 31-59, keeps 30, 45, 50, 60"


def test_keys_inside_can_be_replaced():
    plan = plan_fill({"hip": keys([30, 45, 60], [30, 60])}, ["hip"], keep_keys=False)
    assert plan.keep == {}
    assert plan.sentence == "writes 31-59, keeps 30, 60"


def test_sparse_runs_without_a_key_between_them_are_one_gap():
    plan = plan_fill({"hip": keys([10, 30, 31, 60, 61, 90], [30, 31, 60, 61])}, ["hip"])
    assert gaps(plan) == [(10, 90)]


def test_only_selected_bones_count():
    everything = {"hip": keys([10, 30, 60, 80], [30, 60]), "prop": keys([1, 20, 90], [1, 90])}
    assert gaps(plan_fill(everything, ["hip"])) == [(30, 60)]


def test_without_selected_keys_the_preview_range_then_explicit_frames():
    everything = {"hip": keys(BAKED)}
    assert gaps(plan_fill(everything, ["hip"], preview=(20, 40))) == [(20, 40)]
    assert gaps(plan_fill(everything, ["hip"], preview=(20, 40), frame_start=5, frame_end=9)) == [(5, 9)]
    assert gaps(plan_fill({"hip": keys(BAKED, [3, 9])}, ["hip"], frame_start=50, frame_end=60)) == [(50, 60)]


def test_fractional_columns_border_the_whole_frames_between():
    plan = plan_fill({"hip": keys([10.5, 20.25, 60.75, 70], [20.25, 60.75])}, ["hip"])
    assert plan.gaps[0].frames[[0, -1]].tolist() == [21, 60]
    assert plan.sentence == "writes 21-60, keeps 20.25, 60.75"


def test_long_lists_of_kept_keys_are_counted():
    plan = plan_fill({"hip": keys(range(1, 100, 2), [1, 99])}, ["hip"])
    assert plan.sentence == "writes 2-98, keeps 1 and 99 and 48 key columns between"


@pytest.mark.parametrize(
    ("frames", "selected", "options", "words"),
    [
        ([], [], {}, "no bone keys"),
        (BAKED, [], {}, "No gap is chosen"),
        (BAKED, [40], {}, "Only the keys of frame 40"),
        (BAKED, range(90, 101), {}, "no key is left after frame 100"),
        (BAKED, range(1, 11), {}, "no key is left before frame 1"),
        (BAKED, BAKED, {}, "no key is left before"),
        (BAKED, BAKED, {"extend": True}, "Every key is selected"),
        (BAKED, [], {"frame_start": 90, "frame_end": 130}, "Nothing is keyed at or after frame 130"),
        (BAKED, [], {"frame_start": -20, "frame_end": 30}, "Nothing is keyed at or before frame -20"),
        (BAKED, [], {"frame_start": -20, "frame_end": 300}, "longer than the animation (1-100)"),
        (BAKED, [], {"frame_start": 60, "frame_end": 30}, "must come before"),
        (BAKED, [], {"frame_start": 30, "frame_end": 31}, "no frame between 30 and 31"),
    ],
)
def test_what_cannot_be_filled_is_said_with_the_way_out(frames, selected, options, words):
    with pytest.raises(MotionError) as caught:
        plan_fill({"hip": keys(frames, selected)}, ["hip"], **options)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


def test_extend_accepts_a_missing_side_and_writes_the_run():
    plan = plan_fill({"hip": keys(BAKED, range(90, 101))}, ["hip"], extend=True)
    assert plan.gaps[0].frames.tolist() == list(range(90, 101))
    assert plan.gaps[0].open_end
    assert not plan.gaps[0].open_start
    assert plan.sentence == "writes 90-100, keeps 89"
    plan = plan_fill({"hip": keys(BAKED)}, ["hip"], frame_start=100, frame_end=131, extend=True)
    assert plan.sentence == "writes 101-130, keeps 100"


@given(
    st.sets(st.integers(1, 60), min_size=1).flatmap(
        lambda frames: st.tuples(st.just(sorted(frames)), st.sets(st.sampled_from(sorted(frames))))
    )
)
def test_any_selection_is_a_refusal_or_gaps_in_order_that_hold_no_kept_pose(drawn):
    frames, selected = drawn
    try:
        plan = plan_fill({"hip": keys(frames, selected)}, ["hip"])
    except MotionError:
        return
    ends = [edge for gap in plan.gaps for edge in (gap.start, gap.end)]
    assert ends == sorted(ends)
    assert set(ends) <= set(frames)
    written = {f for gap in plan.gaps for f in gap.frames} - set(plan.keep.get("hip", ()))
    assert written
    for run in timeline.runs(np.asarray(sorted(selected), float)):
        assert (len(run) > 1) == (run[0] in written)  # runs are replaced, single columns kept


def test_refine_takes_the_selection_then_the_preview_then_all():
    everything = {"hip": keys(BAKED, [20, 40])}
    assert plan_range(everything, ["hip"]) == (20, 40)
    assert plan_range({"hip": keys(BAKED, [20])}, ["hip"], preview=(5, 9)) == (5, 9)
    assert plan_range({"hip": keys(BAKED)}, ["hip"]) == (1, 100)
    assert plan_range(everything, ["hip"], frame_start=50, frame_end=400) == (50, 100)
    assert plan_range(everything, ["hip"], frame_start=50, frame_end=50) == (50, 50)


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        ([], {}, "no bone keys"),
        (BAKED, {"frame_start": 200, "frame_end": 300}, "Nothing is keyed in frames 200-300"),
        (BAKED, {"frame_start": 60, "frame_end": 30}, "must not come after"),
    ],
)
def test_a_range_with_nothing_in_it_is_refused(frames, options, words):
    with pytest.raises(MotionError, match=words):
        plan_range({"hip": keys(frames)}, ["hip"], **options)


def test_frames_on_keys_and_between_neighbouring_keys_are_poses():
    keyed = np.array([1, 10, 11, 12, 20.5, 30])
    frames = np.arange(0, 33, dtype=float)
    assert frames[timeline.trusted(keyed, frames)].tolist() == [1, 10, 11, 12, 30]
    assert timeline.trusted(np.array([0.5, 1.25, 2.1]), np.arange(-1.0, 5.0)).tolist() == [
        False, True, True, True, True, False,  # 0 and 3 show the first and the last pose
    ]  # fmt: skip
    assert timeline.trusted(np.array([1.25, 9.5]), np.arange(12.0)).tolist() == [f in (1, 10) for f in range(12)]
    assert not timeline.trusted(np.zeros(0), frames).any()
