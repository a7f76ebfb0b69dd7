"""The expected error: `mmdm.trial`, and what the Fill Gap panel makes of it. The stand-in worker stands for the engine
unless a test says otherwise."""

from __future__ import annotations

import re

import bpy
import numpy as np
import pytest
from drawing_support import drawn
from operator_support import (
    curves,
    figure,
    meanwhile,
    refused,
    same,
    select,
    select_keys,
    state,
)

from mmdm_addon import jobs
from mmdm_addon.operators import estimates
from mmdm_addon.ui import fill_gap as panel
from mmdm_addon.ui import panels

trial = bpy.ops.mmdm.trial


@pytest.fixture(autouse=True)
def forgetful():
    estimates._estimates.clear()
    panel._plan._until = 0


def expectation():
    panel._plan._until = 0
    return panel.expectation(bpy.context)


def test_the_panel_shows_the_sentence_once_and_nothing_is_written(asked, monkeypatch, capfd):
    armature = figure()
    select_keys(armature, range(25, 32))
    before = state(armature)
    assert expectation() == ""
    shown = drawn(panel.MMDM_PT_fill, monkeypatch)
    assert shown.enabled_operators() == [("mmdm.trial", ""), ("mmdm.fill_gap", "")]
    assert trial() == {"FINISHED"}
    sentence = "Expected 0.7 cm, Bézier 1.4 cm, 7 holes"
    assert f"{sentence}." in capfd.readouterr().out  # the report
    assert expectation() == sentence
    assert sentence not in drawn(panels.MMDM_PT_main, monkeypatch).texts("label")  # once is enough
    shown = drawn(panel.MMDM_PT_fill, monkeypatch)
    assert sentence in shown.texts("label")
    assert shown.texts("operator") == ["mmdm.fill_gap"]
    assert same(state(armature), before)
    assert len(bpy.data.actions) == 1
    assert len(armature.mmdm.takes) == 0


def test_an_estimate_holds_for_its_plan_and_its_keys_only(asked):
    armature = figure()
    select_keys(armature, range(25, 32))
    trial()
    sentence = expectation()
    assert sentence
    select_keys(armature, range(25, 36))  # another plan
    assert expectation() == ""
    trial()
    assert expectation() not in ("", sentence)
    select_keys(armature, range(25, 32))  # the first one again, from memory
    assert expectation() == sentence
    select(armature, "left_elbow")  # other bones
    assert expectation() == ""
    select(armature)
    assert expectation() == sentence
    curves(armature)[0].keyframe_points[50].co.y += 0.1  # other keys
    assert expectation() == ""
    assert len(asked) == 2


def test_the_source_frame_rate_belongs_to_the_question(asked):
    armature = figure()
    select_keys(armature, range(25, 32))
    trial()
    armature.mmdm.source_fps = 120
    assert expectation() == ""


def test_without_a_plan_the_button_is_greyed_out_below_the_reason(asked, monkeypatch):
    figure()
    shown = drawn(panel.MMDM_PT_fill, monkeypatch)
    assert shown.texts("label")[0].startswith("No gap is chosen; select the keys")
    assert shown.texts("operator") == ["mmdm.trial", "mmdm.fill_gap"]
    assert shown.enabled_operators() == [("mmdm.fill_gap", "")]
    refused(trial, "No gap is chosen")
    assert asked == []


def test_it_is_greyed_out_with_the_reason_where_nothing_can_be_done(asked):
    with pytest.raises(RuntimeError, match="No armature is active"):
        trial()


def test_the_gap_and_far_more_context_are_sent_than_to_fill(asked):
    armature = figure(frames=1200)
    select_keys(armature, range(600, 611))
    trial()
    _, params, arrays = asked[-1]
    assert params == {"fps": 24, "start": 361, "stop": 372}  # 15 seconds before the border
    assert len(arrays["root"]) == 361 + 11 + 361
    assert not arrays["keep"][361:372].any()
    assert arrays["keep"][:361].all()


def test_of_several_gaps_the_longest_is_tried_and_the_others_are_no_good_motion(asked, monkeypatch):
    armature = figure()
    select_keys(armature, [*range(10, 14), *range(30, 40)])
    panel._plan._until = 0
    buttons = [s.button for what, name, _, s in drawn(panel.MMDM_PT_fill, monkeypatch).items if name == "mmdm.trial"]
    assert buttons == ["Estimate Error of the Longest Gap"]
    trial()
    _, params, arrays = asked[-1]
    assert (params["start"], params["stop"]) == (29, 39)
    bad = ~np.isfinite(arrays["rotations"]).all(axis=(1, 2))
    assert np.flatnonzero(bad).tolist() == [9, 10, 11, 12]
    assert expectation().endswith(" in 30-39, the longest of 2 gaps")


def test_between_sparse_keys_only_the_keys_are_motion(asked):
    armature = figure(every=10)  # keys on 1, 11, 21, 31, 41, 51
    select_keys(armature, (21, 31))
    trial()
    _, _, arrays = asked[-1]
    assert (np.flatnonzero(np.isfinite(arrays["root"]).all(axis=1)) + 1).tolist() == [1, 11, *range(21, 32), 41, 51]


def test_kept_keys_inside_are_told(asked):
    armature = figure(every=10)
    select_keys(armature, (11, 41))
    trial(keep="KEYS")
    _, params, arrays = asked[-1]
    kept = np.flatnonzero(arrays["keep"][params["start"] : params["stop"]].all(axis=1)) + params["start"] + 1
    assert kept.tolist() == [21, 31]
    trial(keep="NONE")
    _, params, arrays = asked[-1]
    assert not arrays["keep"][params["start"] : params["stop"]].any()


def test_it_leaves_no_undo_step(asked):
    armature = figure()
    armature.location.x = 1.0
    bpy.ops.ed.undo_push(message="first")
    armature.location.x = 2.0
    bpy.ops.ed.undo_push(message="second")
    select_keys(bpy.data.objects["Figure"], range(25, 32))
    assert trial("EXEC_DEFAULT", True) == {"FINISHED"}
    bpy.ops.ed.undo()
    assert bpy.data.objects["Figure"].location.x == 1.0


def test_a_moved_key_drops_the_estimate(asked, monkeypatch):
    armature = figure()
    select_keys(armature, range(25, 32))

    def move(_call):
        curves(armature)[0].keyframe_points[30].co.y += 1

    meanwhile(monkeypatch, move)
    refused(trial, "changed while the engine worked")
    assert not estimates._estimates


def test_the_memory_is_bounded():
    for i in range(estimates.REMEMBERED + 10):
        estimates.remember(i, estimates.Estimate("x"))
    assert len(estimates._estimates) == estimates.REMEMBERED
    assert estimates.recall(0) is None
    assert estimates.recall(estimates.REMEMBERED + 9) == estimates.Estimate("x")


def test_fill_gap_mixes_in_what_the_estimate_has_announced(asked):
    armature = figure()
    bpy.ops.mmdm.fill_gap(frame_start=10, frame_end=40)
    assert "blend" not in asked[-1].params  # nothing was estimated
    bpy.ops.mmdm.take_switch(index=0)
    for start, end, blend in ((10, 40, [0.5, "bezier"]), (10, 20, None)):
        trial(frame_start=start, frame_end=end)
        bpy.ops.mmdm.fill_gap(frame_start=start, frame_end=end)
        assert asked[-1].params.get("blend") == blend
        detail = armature.mmdm.takes[-1].detail
        assert (", 50% Bézier" in detail) == bool(blend), detail
        bpy.ops.mmdm.take_switch(index=0)


@pytest.mark.usefixtures("engine")
def test_the_shipped_prior_names_its_error_and_beziers_on_a_walk(walk):
    select_keys(walk, range(111, 150))
    assert trial() == {"FINISHED"}
    sentence = expectation()
    found = re.match(r"Expected (\d+\.\d) cm / (\d+(?:\.\d)?)°, Bézier (\d+\.\d) cm / (\d+(?:\.\d)?)°", sentence)
    assert found, sentence
    ours, ours_angle, bezier, bezier_angle = (float(group) for group in found.groups())
    assert 0 < ours <= 1.2 * bezier < 100
    assert 0 < ours_angle <= 1.2 * bezier_angle < 180
    assert jobs.running() is None
