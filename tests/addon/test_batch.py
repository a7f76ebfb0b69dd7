"""The batch: what goes in and out, what fails and how, stopping and going on. Stand-in engine unless said otherwise."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import bpy
import figures
import numpy as np
import pytest
from operator_support import ensure_registered, standin  # noqa: F401  (a fixture)
from worker_support import ROOT, worker_python

from mmdm_addon import compat
from mmdm_addon.batching import exporting, gaps, ledger, listing, lost_limbs, run, takes
from mmdm_addon.batching.arguments import parse
from mmdm_addon.rig import channels
from mmdm_engine import bvh
from mmdm_engine import rotations as rot
from mmdm_engine.contract.skeleton import INDEX

CLIP = ROOT / "demo" / "walk_turn_wave.bvh"
FRAMES = 60


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """The first frames of the demo clip."""
    from dataclasses import replace

    whole = bvh.read(CLIP)
    path = tmp_path_factory.mktemp("clip") / "clip.bvh"
    path.write_text(replace(whole, values=whole.values[:FRAMES]).text())
    return path


def batch(*words) -> int:
    """In this process, unless --jobs says otherwise."""
    return run.main(["--jobs", "1", *(str(word) for word in words)])


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text("utf-8"))


def by_name(out: Path) -> dict:
    return {file["name"]: file for file in report(out)["files"]}


def spiked(path: Path, out: Path, frame: int = 30) -> Path:
    """A copy with one joint thrown off for a frame, which the stand-in finds and smooths."""
    from dataclasses import replace

    text = bvh.read(path)
    values = text.values.copy()
    column = text.columns(text.hierarchy.names.index("left_elbow"), "rotation")[0][0]
    values[frame, column] += 60
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(replace(text, values=values).text())
    return out


# --- names and arguments ----------------------------------------------------------------------------------------------


def listed(*words) -> dict[str, str]:
    return {item.name: item.result for item in listing.items(parse([str(w) for w in words], "batch"))}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_folders_keep_their_structure_and_other_files_are_passed_over(tmp_path):
    for name in ("a/x.bvh", "b/x.bvh", "b/notes.txt", ".hidden/y.bvh", "b/LOUD.FBX"):
        touch(tmp_path / "in" / name)
    found = listed(tmp_path / "in", "--out", tmp_path / "out")
    assert found == {"a/x.bvh": "a/x.bvh", "b/x.bvh": "b/x.bvh", "b/LOUD.FBX": "b/LOUD.fbx"}


def test_equal_names_of_different_inputs_stay_apart(tmp_path):
    for name in ("p/day/x.bvh", "q/day/x.bvh"):
        touch(tmp_path / name)
    found = listed(tmp_path / "p" / "day", tmp_path / "q" / "day", "--out", tmp_path / "out")
    assert found == {"p/day/x.bvh": "p/day/x.bvh", "q/day/x.bvh": "q/day/x.bvh"}
    found = listed(tmp_path / "p/day/x.bvh", tmp_path / "q/day/x.bvh", tmp_path / "p", "--out", tmp_path / "out")
    assert len(found) == 2
    assert len(set(found.values())) == 2


def test_two_sources_of_one_result_keep_their_suffixes(tmp_path):
    touch(tmp_path / "x.bvh"), touch(tmp_path / "x.fbx"), touch(tmp_path / "z.bvh")
    found = listed(tmp_path, "--out", tmp_path / "out", "--format", "glb")
    assert found == {"x.bvh": "x_bvh.glb", "x.fbx": "x_fbx.glb", "z.bvh": "z.glb"}


def test_only_takes_names_and_paths(tmp_path):
    for name in ("a/x.bvh", "b/y.bvh"):
        touch(tmp_path / name)
    assert set(listed(tmp_path, "--out", tmp_path / "o", "--only", "a/*")) == {"a/x.bvh"}
    assert set(listed(tmp_path, "--out", tmp_path / "o", "--only", "y.*")) == {"b/y.bvh"}


def test_the_results_of_a_run_inside_the_input_folder_are_no_input(tmp_path):
    touch(tmp_path / "x.bvh"), touch(tmp_path / "out" / "results" / "x.bvh")
    assert set(listed(tmp_path, "--out", tmp_path / "out")) == {"x.bvh"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["IN"],
        ["IN", "--out", "o", "--do", "polish"],
        ["IN", "--out", "o", "--jobs", "0"],
        ["IN", "--out", "o", "--strength", "2"],
        ["IN", "--out", "o", "--part", "3/2"],
        ["missing.bvh", "--out", "o"],
        ["text.txt", "--out", "o"],
        ["IN", "--out", "o", "--only", "*.none"],
        ["IN", "--out", "text.txt"],
    ],
    ids=lambda words: " ".join(words) or "nothing",
)
def test_wrong_arguments_end_with_2_one_reason_and_nothing_written(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "IN" / "x.bvh"), touch(tmp_path / "text.txt")
    assert batch(*words) == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.strip()
    assert not (tmp_path / "o").exists()


def test_without_an_engine_nothing_is_begun(tmp_path, clip, monkeypatch, capfd):
    ensure_registered()
    monkeypatch.setenv("MMDM_PYTHON", str(tmp_path / "nowhere"))
    assert batch(clip, "--out", tmp_path / "out") == 2
    assert "MMDM_PYTHON" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_engine_that_is_broken_is_told_before_a_file_is_blamed(tmp_path, clip, standin, monkeypatch, capfd):  # noqa: F811
    from mmdm_addon.batching.engine import Engine

    asked = Engine.ask
    monkeypatch.setattr(
        Engine,
        "ask",
        lambda self, method, motion, params=None: asked(self, method, motion, {**params, "prior": "corrupt"}),
    )
    assert batch(clip, "--out", tmp_path / "out", "--do", "refine") == 2
    assert "damaged" in capfd.readouterr().err
    assert not list((tmp_path / "out").rglob("*.json"))


def test_a_crew_whose_engines_are_broken_blames_no_file_and_says_why_once(tmp_path, clip, monkeypatch, capfd):
    for name in ("a.bvh", "b.bvh"):
        spiked(clip, tmp_path / "in" / name)
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho no torch here >&2\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("MMDM_PYTHON", str(broken))
    ensure_registered()
    run.runtime.shut_down()
    assert batch(tmp_path / "in", "--out", tmp_path / "out", "--jobs", "2") == 2
    said = capfd.readouterr().err
    assert said.count("no torch here") == 1
    assert "Traceback" not in said
    assert not list((tmp_path / "out" / "ledger").iterdir())
    assert not list((tmp_path / "out" / "results").iterdir())


def test_a_signal_handler_that_is_not_pythons_does_no_harm(tmp_path, clip, standin, monkeypatch):  # noqa: F811
    """Blender has one of its own for Ctrl-C, which Python reports as None."""
    python = signal.signal
    monkeypatch.setattr(run.signal, "signal", lambda number, handler: python(number, handler) and None)
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect") == 0


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path, clip, capsys):
    assert batch(clip, "--out", tmp_path / "out", "--dry-run", "--do", "refine") == 0
    line = capsys.readouterr().out
    assert str(clip) in line
    assert "results/clip.bvh" in line
    assert "refine" in line
    assert not (tmp_path / "out").exists()


def test_a_run_is_not_begun_over_another_one(tmp_path, clip, standin, capfd):  # noqa: F811
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect") == 0
    before = (tmp_path / "out" / "report.json").read_bytes()
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect") == 2
    assert "--resume" in capfd.readouterr().err
    assert (tmp_path / "out" / "report.json").read_bytes() == before


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_spike_is_found_and_smoothed_and_the_rest_of_the_file_keeps_every_number(tmp_path, clip, standin):  # noqa: F811
    source = spiked(clip, tmp_path / "in" / "ä b" / "täke 1.bvh")
    assert batch(tmp_path / "in", "--out", tmp_path / "aus gabe", "--do", "detect,fill") == 0
    same = bvh.read(tmp_path / "aus gabe" / "results" / "ä b" / "täke 1.bvh")
    np.testing.assert_array_equal(same.values, bvh.read(source).values)  # nothing to fill: to the last digit
    assert batch(tmp_path / "in", "--out", tmp_path / "out", "--do", "detect,refine") == 0
    old, new = bvh.read(source), bvh.read(tmp_path / "out" / "results" / "ä b" / "täke 1.bvh")
    assert new.header == old.header
    assert new.frame_time_text == old.frame_time_text
    column = old.columns(old.hierarchy.names.index("left_elbow"), "rotation")[0][0]
    assert abs(new.values[30, column] - old.values[30, column]) > 10
    take = report(tmp_path / "out")["files"][0]["takes"][0]
    assert take["problems"]["before"] >= 1
    assert take["fps"] == 30
    assert take["largest"]["degrees_joint"] == "left_elbow"
    assert take["largest"]["degrees_frame"] == 31


def channels_of(armature) -> dict[tuple[str, str], np.ndarray]:
    """(bone, property) → (T, 3) what its keys say, a key on each of the frames 1 to T."""
    found = {}
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        co = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", co)
        np.testing.assert_array_equal(co[::2], 1 + np.arange(len(co) // 2))
        assert {p.interpolation for p in curve.keyframe_points} == {"LINEAR"}
        bone, _, name = curve.data_path.removeprefix('pose.bones["').partition('"].')
        found.setdefault((bone, name), np.zeros((len(co) // 2, 3)))[:, curve.array_index] = co[1::2]
    return found


@pytest.mark.parametrize("order", ["ZYX", "ZXY", "XYZ"])
def test_a_bvh_file_gets_the_bones_and_keys_that_blenders_importer_gives_it(order, tmp_path, clip):
    usual, wanted = (" ".join(f"{axis}rotation" for axis in letters) for letters in ("ZYX", order))
    text = clip.read_text("utf-8").replace(usual, wanted)
    assert text.count(wanted) == 22
    source = tmp_path / "täke one.bvh"
    source.write_text(text, "utf-8")
    sides = []
    for load in (takes.open_file, _imported):
        load(source)
        armature = bpy.context.object
        rest = np.array([b.matrix_local for b in armature.data.bones])
        modes = {b.name: b.rotation_mode for b in armature.pose.bones}
        sides.append((armature.name, modes, rest.tolist(), channels_of(armature)))
        takes.empty()
    (*ours, our_keys), (*theirs, their_keys) = sides
    assert ours == theirs
    assert our_keys.keys() == their_keys.keys()
    for (bone, name), values in their_keys.items():
        mine = our_keys[bone, name]
        assert len(mine) == FRAMES
        if name == "location":
            np.testing.assert_allclose(mine, values, atol=2e-5)
        else:  # Euler angles have two spellings, and which one follows gimbal lock is a matter of taste
            turns = [channels.to_quaternion(angles, ours[1][bone]) for angles in (mine, values)]
            assert rot.angle(*turns).max() < 5e-4  # Blender's single precision beside gimbal lock


def _imported(path: Path) -> None:
    scale = bvh.infer_scale(bvh.read(path).hierarchy)[0]
    bpy.ops.import_anim.bvh(filepath=str(path), global_scale=scale)


@pytest.mark.parametrize("kind", ["fbx", "glb", "blend"])
def test_other_formats_hold_the_same_motion_at_the_same_rate(kind, tmp_path, clip, standin):  # noqa: F811
    assert batch(clip, "--out", tmp_path / "there", "--do", "detect", "--format", kind) == 0
    middle = tmp_path / "there" / "results" / f"clip.{kind}"
    assert batch(middle, "--out", tmp_path / "back", "--do", "detect", "--format", "bvh") == 0
    assert report(tmp_path / "back")["files"][0]["takes"][0]["fps"] == pytest.approx(30)
    old, new = bvh.read(clip), bvh.read(tmp_path / "back" / "results" / "clip.bvh")
    assert len(new.values) == FRAMES
    assert new.fps == pytest.approx(30)
    places = []
    for text in (old, new):
        local, moves = text.local()
        names = text.hierarchy.names
        turns, heads = list(local.swapaxes(0, 1)), list(moves.swapaxes(0, 1))
        for j, parent in enumerate(text.hierarchy.parents):
            if parent >= 0:
                heads[j] = heads[parent] + rot.rotate(turns[parent], moves[:, j])
                turns[j] = rot.multiply(turns[parent], local[:, j])
        places.append(np.stack([heads[names.index(n)] for n in ("left_wrist", "right_ankle", "head")], axis=1))
    size = bvh.infer_scale(old.hierarchy)[0]
    np.testing.assert_allclose(places[1], places[0] * size, atol=2e-3)


def test_a_gap_between_markers_and_missing_frames_are_filled_in_a_blend(tmp_path, standin):  # noqa: F811
    armature = figures.make()
    figures.animate(armature, frames=120)
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        for point in reversed([p for p in curve.keyframe_points if 80 < p.co.x < 95]):
            curve.keyframe_points.remove(point, fast=True)
        curve.update()
    for frame in (20, 40, 110):
        bpy.context.scene.timeline_markers.new("gap", frame=frame)
    source = tmp_path / "two gaps.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(source))
    before = figures.snapshot(armature.animation_data.action, compat.assigned_slot(armature))
    assert batch(source, "--out", tmp_path / "out", "--do", "fill") == 0
    take = report(tmp_path / "out")["files"][0]["takes"][0]
    assert take["filled"] == [{"start": 21, "end": 39, "why": "marker"}, {"start": 81, "end": 94, "why": "no keys"}]
    assert any("110" in note for note in take["notes"])  # the marker without a partner
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "out" / "results" / "two gaps.blend"))
    armature = bpy.data.objects["Figure"]
    data = armature.animation_data
    assert data.action.name == take["action"]
    assert "Source" in bpy.data.actions  # nothing is lost
    after = figures.snapshot(data.action, compat.assigned_slot(armature))
    changed, written = 0, 0
    for key, old in before.items():
        a = {float(x): float(y) for x, y in old["co"]}
        b = {float(x): float(y) for x, y in after[key]["co"]}
        assert set(range(81, 95)) <= set(b)
        outside = [f for f in a if not (20 < f < 40)]
        assert all(a[f] == b[f] for f in outside)
        changed += sum(a[f] != b[f] for f in range(21, 40))
        written += 1
    assert changed > written  # the stand-in's answer, not the old keys


def test_a_frozen_run_of_the_whole_body_is_a_gap():
    frozen = [{"kind": "frozen", "joint": name, "start": 10, "stop": 20} for name in list(INDEX)[:16]]
    exists = np.ones(22, bool)
    frames = np.arange(100, 140, dtype=float)
    assert gaps._frozen(frozen, frames, exists) == [gaps.Found(109.0, 120.0, "frozen")]
    assert gaps._frozen(frozen[:5], frames, exists) == []  # a limb is not


def test_an_arm_that_hangs_still_while_the_body_walks_is_lost():
    from mmdm_engine import load_bvh

    motion = load_bvh(CLIP)
    assert not lost_limbs.find(motion)[0].any()
    rotations = motion.rotations.copy()
    arm = [INDEX[f"left_{j}"] for j in ("shoulder", "elbow", "wrist")]
    rotations[40:100, arm] = rotations[39, arm]
    mask, words = lost_limbs.find(motion.with_frames(rotations, motion.root))
    assert [w["limb"] for w in words] == ["left arm"]
    assert mask[40:100, arm].all()
    assert mask.sum() == 60 * 3


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_files_get_a_sentence_each_and_stop_nobody(tmp_path, clip, standin, capfd):  # noqa: F811
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(clip, folder / "good.bvh")
    (folder / "zero.bvh").write_bytes(b"")
    (folder / "cut.bvh").write_bytes(clip.read_bytes()[:6000])
    for kind in ("fbx", "glb", "gltf", "blend"):
        (folder / f"rubbish.{kind}").write_bytes(os.urandom(3000))
    still = figures.make()
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "no_action.blend"))
    bpy.data.objects.remove(still)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "no_armature.blend"))
    prop = figures.make({"pelvis": "Lid", "head": "Hinge"})
    figures.animate(prop, root="Lid", frames=20)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "prop.blend"))
    assert batch(folder, "--out", tmp_path / "out", "--do", "refine") == 1
    files = by_name(tmp_path / "out")
    assert {name for name, file in files.items() if file["status"] == "done"} == {"good.bvh"}
    for name, words in {
        "zero.bvh": "empty", "cut.bvh": "cut short", "rubbish.fbx": "export it again", "rubbish.glb": "export it again",
        "rubbish.gltf": "export it again", "rubbish.blend": "export it again", "no_action.blend": "no action",
        "no_armature.blend": "no armature", "prop.blend": "Bone Map",
    }.items():  # fmt: skip
        sentence = files[name]["sentence"]
        assert words in sentence, sentence
        assert "Traceback" not in sentence
        assert "\n" not in sentence
        assert files[name]["result"] is None
        assert not (tmp_path / "out" / "results" / name).exists()
    assert counts(tmp_path / "out") == {"done": 1, "failed": 9, "left": 0}


def counts(out: Path) -> dict:
    return report(out)["counts"]


def test_a_full_disk_fails_the_file_and_leaves_no_half_result(tmp_path, clip, standin, monkeypatch):  # noqa: F811
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting.bvh_file, "write", full)
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect") == 1
    assert "disk is full" in by_name(tmp_path / "out")["clip.bvh"]["sentence"]
    assert list((tmp_path / "out" / "results").iterdir()) == []
    monkeypatch.undo()
    ensure_registered()


def test_a_disk_that_is_full_at_the_report_is_told_and_the_results_stay(tmp_path, clip, standin, monkeypatch, capfd):  # noqa: F811
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run.report, "write", full)
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect") == 1
    said = capfd.readouterr().err
    assert "No space left" in said
    assert "--report" in said
    assert "Traceback" not in said
    assert (tmp_path / "out" / "results" / "clip.bvh").exists()
    monkeypatch.undo()
    ensure_registered()
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect", "--report") == 0
    assert counts(tmp_path / "out") == {"done": 1, "failed": 0, "left": 0}


def test_files_that_are_cut_short_fail_in_words(tmp_path, clip, standin):  # noqa: F811
    folder = tmp_path / "in"
    folder.mkdir()
    for kind in ("fbx", "glb", "blend"):
        assert batch(clip, "--out", tmp_path / kind, "--do", "detect", "--format", kind) == 0
        whole = (tmp_path / kind / "results" / f"clip.{kind}").read_bytes()
        (folder / f"cut.{kind}").write_bytes(whole[: len(whole) // 2])
    assert batch(folder, "--out", tmp_path / "out", "--do", "detect") == 1
    for name, file in by_name(tmp_path / "out").items():
        assert file["status"] == "failed", name
        assert "export it again" in file["sentence"], file["sentence"]
        assert "\n" not in file["sentence"]


def test_an_output_folder_that_cannot_be_written_is_refused(tmp_path, clip, standin, capfd):  # noqa: F811
    touch(tmp_path / "file")
    assert batch(clip, "--out", tmp_path / "file" / "out") == 2
    assert "another --out" in capfd.readouterr().err


def test_a_crash_of_the_engine_costs_one_file(tmp_path, clip, standin, monkeypatch):  # noqa: F811
    for name in ("a.bvh", "b.bvh"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(clip, tmp_path / "in" / name)
    from mmdm_addon.batching.engine import Engine

    asked = Engine.ask
    calls = []

    def die_once(self, method, motion, params=None, **arrays):
        calls.append(len(motion))
        how = {"prior": "die"} if calls.count(FRAMES) == 1 else {}  # the trial at the start has other frames
        return asked(self, method, motion, {**(params or {}), **how}, **arrays)

    monkeypatch.setattr(Engine, "ask", die_once)
    assert batch(tmp_path / "in", "--out", tmp_path / "out", "--do", "refine") == 1
    files = by_name(tmp_path / "out")
    assert files["a.bvh"]["status"] == "failed"
    assert "stopped unexpectedly" in files["a.bvh"]["sentence"]
    assert files["b.bvh"]["status"] == "done"


# --- stopping and going on --------------------------------------------------------------------------------------------


def test_resume_does_what_is_missing_failed_changed_or_gone_and_nothing_else(tmp_path, clip, standin):  # noqa: F811
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("kept", "changed", "gone", "bad"):
        spiked(clip, folder / f"{name}.bvh")
    (folder / "bad.bvh").write_bytes(b"")
    words = (folder, "--out", out, "--do", "detect")
    assert batch(*words) == 1
    stamps = {p.name: p.stat().st_mtime_ns for p in (out / "results").iterdir()}
    spiked(clip, folder / "bad.bvh")
    spiked(clip, folder / "changed.bvh", frame=20)
    spiked(clip, folder / "new.bvh")
    (out / "results" / "gone.bvh").unlink()
    assert batch(*words, "--resume") == 0
    assert counts(out) == {"done": 5, "failed": 0, "left": 0}
    after = {p.name: p.stat().st_mtime_ns for p in (out / "results").iterdir()}
    assert after["kept.bvh"] == stamps["kept.bvh"]
    assert after["changed.bvh"] != stamps["changed.bvh"]
    assert set(after) == {"kept.bvh", "changed.bvh", "gone.bvh", "bad.bvh", "new.bvh"}
    assert batch(folder, "--out", out, "--do", "detect,refine", "--resume") == 0  # other settings: all anew
    assert (out / "results" / "kept.bvh").stat().st_mtime_ns != after["kept.bvh"]


def test_locks_of_the_living_hold_and_those_of_the_dead_do_not(tmp_path, clip):
    settings = parse([str(clip), "--out", str(tmp_path / "out")], "batch")
    book = ledger.Ledger(settings)
    book.create()
    item = listing.items(settings)[0]
    with book.claimed(item) as ours:
        assert ours
        with book.claimed(item) as again:
            assert not again
        lock = tmp_path / "out" / "locks" / "clip.bvh.lock"
        assert lock.exists()
    assert not lock.exists()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    import socket

    lock.write_text(json.dumps({"host": socket.gethostname(), "process": ended.pid}))
    with book.claimed(item) as ours:
        assert ours
    lock.write_text(json.dumps({"host": "elsewhere", "process": 1}))
    with book.claimed(item) as ours:
        assert not ours
    os.utime(lock, (time.time() - 100, time.time() - 100))
    with book.claimed(item) as ours:
        assert ours


def test_a_half_written_file_never_has_its_final_name(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")

    def half():
        with ledger.whole(path) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def environment() -> dict[str, str]:
    return {**os.environ, "MMDM_PYTHON": worker_python(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(*words) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "mmdm_addon" / "batch.py"), *map(str, words)],
        env={k: v for k, v in environment().items() if k != "PYTHONPATH"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
    )  # fmt: skip


@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGKILL, 1), (signal.SIGINT, 1), (signal.SIGKILL, 2)])
def test_a_real_run_that_is_killed_goes_on_without_redoing(number, jobs, tmp_path, clip):
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in range(6):
        spiked(clip, folder / f"{i}.bvh", frame=20 + i)
    running = start(folder, "--out", out, "--do", "detect,refine", "--jobs", jobs)
    try:
        deadline = time.monotonic() + 150
        while not list((out / "ledger").glob("*.bvh.json")):
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(number)
        said = running.communicate(timeout=60)[1].decode()
    finally:
        running.kill()
    assert running.returncode == (130 if number == signal.SIGINT else -number), said
    while list((out / "locks").glob("*.lock")) and jobs > 1:  # members whose leader is dead finish their file and end
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = {p.name: p.stat().st_mtime_ns for p in (out / "results").glob("[0-9]*.bvh")}
    assert 1 <= len(done) < 6
    for name in done:
        assert len(bvh.read(out / "results" / name).values) == FRAMES
    ended = start(folder, "--out", out, "--do", "detect,refine", "--resume", "--jobs", "1")
    said = ended.communicate(timeout=170)[1].decode()
    assert ended.returncode == 0, said
    assert counts(out) == {"done": 6, "failed": 0, "left": 0}
    recorded = {p.name.removesuffix(".json") for p in (out / "ledger").iterdir()}
    assert recorded == {f"{i}.bvh" for i in range(6)}
    kept = [name for name in done if (out / "results" / name).stat().st_mtime_ns == done[name]]
    assert len(kept) >= len(done) - 1  # the last one may have had its result but no record yet
    assert not list(out.rglob("*.partial*"))
    assert not list(out.rglob("*.lock"))


def test_several_processes_share_one_list(tmp_path, clip):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a/x.bvh", "b/x.bvh", "c.bvh"):
        spiked(clip, folder / name)
    (folder / "zero.bvh").write_bytes(b"")
    ended = start(folder, "--out", out, "--do", "detect,refine", "--jobs", "2")
    said = ended.communicate(timeout=170)[1].decode()
    assert ended.returncode == 1, said
    assert counts(out) == {"done": 3, "failed": 1, "left": 0}
    assert said.count("[4/4]") == 1
    assert not list(out.rglob("*.lock"))


def test_parts_share_the_list_and_only_the_report_knows_all(tmp_path, clip, standin, capfd):  # noqa: F811
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("a", "b", "c"):
        spiked(clip, folder / f"{name}.bvh")
    everything = listing.items(parse([str(folder), "--out", str(out)], "batch"))
    shared = [
        listing.share(everything, parse([str(folder), "--out", str(out), "--part", f"{i}/5"], "batch"))
        for i in range(1, 6)
    ]
    assert [len(part) for part in shared] == [1, 1, 1, 0, 0]
    assert [item for part in shared for item in part] == everything
    assert batch(folder, "--out", out, "--report") == 2
    assert "holds no run" in capfd.readouterr().err
    assert batch(folder, "--out", out, "--do", "detect", "--part", "5/5") == 0  # nothing to do is no failure
    book = ledger.Ledger(parse([str(folder), "--out", str(out), "--do", "detect"], "batch"))
    book.create()
    record = {"name": "", "source": "", "result": None, "bytes": 0, "takes": [], "notes": [], "sentence": ""}
    spent = {"seconds": {"total": 2.0, "engine": 1.0}}
    book.store(everything[0], {**record, **spent, "name": "a.bvh", "status": "failed"})
    assert batch(folder, "--out", out, "--do", "detect", "--report") == 1
    assert counts(out) == {"done": 0, "failed": 1, "left": 2}
    assert report(out)["seconds"] == pytest.approx(2.0)
    for item in everything[1:]:
        book.store(item, {**record, **spent, "name": item.name, "status": "failed"})
    assert batch(folder, "--out", out, "--do", "detect", "--report") == 0  # the report is made; bad files are in it


def test_a_file_that_crashes_blender_costs_itself_only(tmp_path, clip, monkeypatch):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("crash", "good"):
        spiked(clip, folder / f"{name}.bvh")
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    crashing = (
        "import os, sys, bpy; from mmdm_addon.batching import run, takes; opened = takes.open_file\n"
        "takes.open_file = lambda path: os.abort() if path.stem == 'crash' else opened(path)\n"
        "status = run.main(sys.argv[1:]); run.runtime.shut_down(); os._exit(status)"
    )
    monkeypatch.setattr(run.crew, "command", lambda settings: [sys.executable, "-c", crashing, *settings.argv()])
    ensure_registered()
    assert batch(folder, "--out", out, "--do", "detect", "--jobs", "2") == 1
    assert counts(out) == {"done": 1, "failed": 1, "left": 0}
    assert "crashed on this file" in by_name(out)["crash.bvh"]["sentence"]


# --- reports ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags that are opened and not closed, and addresses that a page loads things from."""

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.drawn = [], [], 0

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "polyline", "path", "rect"):
            self.open.append(tag)
        self.drawn += tag in ("polyline", "path")
        self.loads += [v for k, v in attrs if k in ("src", "href") and tag != "a"]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_sound_draws_and_loads_nothing(tmp_path, clip, standin):  # noqa: F811
    spiked(clip, tmp_path / "in" / "<b>&'.bvh")
    (tmp_path / "in" / "zero.bvh").write_bytes(b"")
    assert batch(tmp_path / "in", "--out", tmp_path / "out", "--do", "detect,refine") == 1
    text = (tmp_path / "out" / "report.html").read_text("utf-8")
    page = Page()
    page.feed(text.replace("<!DOCTYPE html>", ""))
    assert page.open == []
    assert page.loads == []
    assert page.drawn >= 2 * 2  # a curve and a picture, before and after
    assert "<b>&'.bvh" not in text
    assert "&lt;b&gt;&amp;&#x27;.bvh" in text
    assert "empty (0 bytes)" in text


def test_report_json_has_what_the_docs_say(tmp_path, clip, standin):  # noqa: F811
    spiked(clip, tmp_path / "in" / "x.bvh")
    assert batch(tmp_path / "in", "--out", tmp_path / "out", "--do", "detect,refine") == 0
    document = report(tmp_path / "out")
    assert document["schema"] == "mmdm.batch/1"
    docs = (ROOT / "docs" / "batch.md").read_text("utf-8")
    schema = docs[docs.index("## report.json") :]
    file = document["files"][0]
    take = file["takes"][0]
    parts = (document, document["settings"], file, take, take["largest"], take["problems"], take["problems"]["list"][0])
    for part in (*parts, take["curves"][0], take["pictures"][0]):
        for name in part:
            assert re.search(rf"`{name}`", schema), f"{name} is not in docs/batch.md"


# --- memory and speed -------------------------------------------------------------------------------------------------


def test_memory_stays_flat_from_file_to_file(tmp_path, clip, standin):  # noqa: F811
    psutil_like = Path("/proc/self/statm")
    if not psutil_like.exists():
        pytest.skip("needs /proc to see the memory of this process")
    for i in range(12):
        spiked(clip, tmp_path / "in" / f"{i}.bvh")

    def resident():
        return int(psutil_like.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    settings = (tmp_path / "in", "--do", "detect,refine")
    assert batch(*settings, "--out", tmp_path / "warm") == 0
    before = resident()
    for i in range(2):
        assert batch(*settings, "--out", tmp_path / f"out{i}") == 0
    assert resident() - before < 15  # MB after 24 more files
    assert len(bpy.data.actions) == 0


def test_the_benchmark_prints_one_document_with_the_memory_of_every_process():
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc to see other processes")
    words = [worker_python(), "benchmarks/batch.py", "--takes", "2", "--frames", "60", "--json"]
    ended = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=170)
    if "No module named 'bpy'" in ended.stderr:
        pytest.skip("the engine's Python has no bpy")
    assert ended.returncode == 0, ended.stderr
    document = json.loads(ended.stdout)
    assert document["engine_alone_seconds"] > 0
    assert document["batch_seconds"] > document["work_seconds"] > 0
    assert {name.split()[0] for name in document["memory_mib"]} == {"leader", "engine"}
    assert all(100 < mib < 4000 for row in document["memory_mib"].values() for mib in row)


def test_the_command_is_known_to_blender(tmp_path):
    from mmdm_addon.batching import command

    ensure_registered()
    assert command._handle is not None
    assert command._execute([str(tmp_path / "missing"), "--out", str(tmp_path / "out")]) == 2


def test_a_gltf_file_is_read_at_the_rate_of_its_keys(tmp_path, clip, standin):  # noqa: F811
    assert batch(clip, "--out", tmp_path / "out", "--do", "detect", "--format", "glb") == 0
    assert takes._gltf_rate(tmp_path / "out" / "results" / "clip.glb") == 30
