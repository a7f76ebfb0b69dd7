"""What may happen to the worker and to the file while a job runs: no crash, nothing lost, one sentence.

The worker's side is tested alone in test_worker_client.py, the window's in test_jobs.py and tests/gui.
"""

from __future__ import annotations

import os
import signal
import time

import bpy
import pytest
from operator_support import armature_now, curves, deselect, figure, meanwhile, refused, same, select, state

from mmdm_addon import compat, jobs, runtime
from mmdm_addon.engine_client import EngineClient
from mmdm_addon.engine_link import protocol

pytestmark = pytest.mark.usefixtures("standin")
mmdm = bpy.ops.mmdm
GAP = {"frame_start": 20, "frame_end": 40}
OPERATORS = {
    "fill_gap": GAP,
    "refine_jitter": GAP,
    "complete_bones": GAP,
    "trial": GAP,
    "detect_problems": {},
}


def ready(name):
    """A figure on which this operator would succeed; its state."""
    armature = figure()
    if name == "complete_bones":
        select(armature, "left_shoulder", "left_elbow")
    return state(armature)


def assert_untouched(before):
    assert same(state(armature_now()), before)
    assert len(bpy.data.actions) == 1
    assert not bpy.data.actions[0].use_fake_user
    assert len(armature_now().mmdm.takes) == 0
    assert jobs.running() is None


def kill(client):
    os.kill(client._process.pid, signal.SIGKILL)


# ---------------------------------------------------------------- the worker dies


def while_computing(call):
    end = time.monotonic() + 60
    while not call.client.hello:
        assert not call.poll(), call.error
        assert time.monotonic() < end
        time.sleep(0.01)
    kill(call.client)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_worker_that_is_killed_in_the_middle_costs_one_sentence(name, monkeypatch):
    before = ready(name)
    runtime.client().submit("ping").wait()
    meanwhile(monkeypatch, lambda call: kill(call.client))
    refused(getattr(mmdm, name), "stopped unexpectedly", "run again", **OPERATORS[name])
    assert_untouched(before)


@pytest.mark.parametrize("stage", ["starting", "computing"])
def test_killed_while_it_starts_or_computes(stage, monkeypatch):
    before = ready("fill_gap")
    runtime.shut_down()
    meanwhile(monkeypatch, (lambda call: kill(call.client)) if stage == "starting" else while_computing)
    words = ("did not start",) if stage == "starting" else ("stopped unexpectedly", "run again")
    refused(mmdm.fill_gap, *words, label="slow", **GAP)
    assert_untouched(before)


def test_killed_while_the_request_is_sent(monkeypatch):
    before = ready("fill_gap")
    runtime.client().submit("ping").wait()

    def broken(stream, pieces):
        """The pipe breaks half-way."""
        stream.write(b"".join(bytes(piece) for piece in pieces)[:100])
        stream.flush()
        kill(runtime.current())
        raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr(protocol, "send", broken)
        refused(mmdm.fill_gap, "stopped unexpectedly", "run again", **GAP)
    assert_untouched(before)
    assert mmdm.fill_gap(**GAP) == {"FINISHED"}


def test_killed_while_the_answer_arrives(monkeypatch):
    """Half an answer is none, however much of it came."""
    before = ready("fill_gap")
    runtime.client().submit("ping").wait()
    read = protocol.Reader.read

    def dies_inside(reader):
        message = read(reader)
        if message is not None and message.header.get("event") == "result":
            kill(runtime.current())
            raise protocol.ProtocolError("the payload ends early")
        return message

    with monkeypatch.context() as patch:
        patch.setattr(protocol.Reader, "read", dies_inside)
        refused(mmdm.fill_gap, "stopped unexpectedly", "run again", **GAP)
    assert_untouched(before)
    assert mmdm.fill_gap(**GAP) == {"FINISHED"}


def test_killed_between_two_requests_is_not_even_noticed():
    ready("fill_gap")
    for expected in (2, 3):
        runtime.client().submit("ping").wait()
        client: EngineClient = runtime.client()
        kill(client)
        client._process.wait(10)
        assert mmdm.fill_gap(**GAP) == {"FINISHED"}
        assert len(bpy.data.actions) == expected


# ---------------------------------------------------------------- the file changes


def delete_armature(_call):
    bpy.data.objects.remove(armature_now())


def unlink_armature(_call):
    bpy.context.scene.collection.objects.unlink(armature_now())
    bpy.context.view_layer.update()  # as Blender does between two events


def close_file(_call):
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def unlink_action(_call):
    armature_now().animation_data.action = None


def clear_animation(_call):
    armature_now().animation_data_clear()


def remove_action(_call):
    bpy.data.actions.remove(armature_now().animation_data.action)


def delete_curve(_call):
    armature = armature_now()
    action, slot = armature.animation_data.action, compat.assigned_slot(armature)
    holder = compat.curves(action, slot)
    holder.remove(holder[5])


def rename_bones(_call):
    for name in ("left_knee", "head"):
        armature_now().data.bones[name].name = f"{name}_renamed"


def delete_bone(_call):
    bpy.ops.object.mode_set(mode="EDIT")
    bones = armature_now().data.edit_bones
    bones.remove(bones["left_wrist"])
    bpy.ops.object.mode_set(mode="POSE")


def edit_mode(_call):
    bpy.ops.object.mode_set(mode="EDIT")


WRITERS = ("fill_gap", "refine_jitter", "complete_bones")
GONE = (delete_armature, unlink_armature, close_file)
CHANGED = (unlink_action, clear_animation, remove_action, delete_curve, rename_bones)


@pytest.mark.parametrize("what", [*GONE, *CHANGED])
@pytest.mark.parametrize("name", ["fill_gap", "refine_jitter"])
def test_a_result_that_no_longer_fits_is_dropped_in_one_sentence(name, what, monkeypatch, capfd):
    ready(name)
    meanwhile(monkeypatch, what)
    try:
        outcome = getattr(mmdm, name)("EXEC_DEFAULT", True, **OPERATORS[name])
    except RuntimeError:  # Blender's way to hand an error report to a script
        outcome = {"CANCELLED"}
    assert outcome == {"CANCELLED"}
    message = bpy.context.window_manager.mmdm.message
    assert ("is gone" if what in GONE else "changed while the engine worked") in message
    assert "dropped" in message
    assert "\n" not in message
    assert "Traceback" not in capfd.readouterr().err
    assert len(bpy.data.actions) <= 1
    assert jobs.running() is None


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("what", [edit_mode, delete_bone])
def test_a_rig_that_cannot_be_written_any_more_is_left_alone(name, what, monkeypatch, capfd):
    before = ready(name)
    meanwhile(monkeypatch, what)
    text = refused(getattr(mmdm, name), **OPERATORS[name])
    assert "unexpected problem" not in text, text
    assert "Traceback" not in capfd.readouterr().err
    bpy.ops.object.mode_set(mode="POSE")
    kept = state(armature_now())[1]
    assert all((kept[key]["co"] == columns["co"]).all() for key, columns in before[1].items() if key in kept)
    assert len(bpy.data.actions) == 1
    assert len(armature_now().mmdm.takes) == 0


@pytest.mark.parametrize("name", WRITERS)
def test_changing_to_object_mode_selection_and_frame_does_not_lose_the_result(name, monkeypatch):
    ready(name)

    def change(_call):
        bpy.ops.object.mode_set(mode="OBJECT")
        bpy.context.scene.frame_set(33)
        deselect(armature_now())

    meanwhile(monkeypatch, change)
    assert getattr(mmdm, name)(**OPERATORS[name]) == {"FINISHED"}
    assert armature_now().mode == "OBJECT"
    assert bpy.context.scene.frame_current == 33
    assert len(armature_now().mmdm.takes) == 2


def test_undo_while_it_runs_keeps_what_undo_brought_back(monkeypatch):
    figure()
    bpy.ops.ed.undo_push(message="posed")
    posed = state(armature_now())
    curves(armature_now())[3].keyframe_points[30].co.y += 1
    bpy.ops.ed.undo_push(message="moved a key")
    meanwhile(monkeypatch, lambda _call: bpy.ops.ed.undo())
    refused(mmdm.fill_gap, "changed while the engine worked", "dropped", **GAP)
    assert_untouched(posed)
