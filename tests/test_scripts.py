"""What the README promises outside the packages: the demo clip, the scripts, the commands and the links."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmdm_engine as mmdm
from mmdm_engine import contacts, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.cli import COMMANDS
from mmdm_engine.contract.skeleton import INDEX

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ["test", "demo", "make_demo_clip"]


@pytest.fixture(scope="module")
def make_clip():
    sys.path.insert(0, str(ROOT / "demo"))
    import make_clip

    return make_clip


@pytest.fixture(scope="module")
def sheet():
    return json.loads((ROOT / "demo" / "key_poses.json").read_text())


@pytest.fixture(scope="module")
def clip():
    return mmdm.load_bvh(ROOT / "demo" / "walk_turn_wave.bvh")


@pytest.fixture(scope="module")
def pose(clip):
    """Global rotations (T, 22, 4) and places (T, 22, 3)."""
    return kinematics.forward(
        clip.rotations.astype(float), clip.root.astype(float), clip.skeleton.offsets.astype(float)
    )


def test_the_clip_lasts_as_promised_and_is_human_sized(clip):
    assert clip.fps == 30
    assert 8 <= len(clip) / clip.fps <= 12
    assert 0.7 < clip.skeleton.leg_length < 0.95
    clip.require_finite()


def test_nothing_goes_through_the_floor(clip, pose, make_clip, sheet):
    sole = make_clip.Sole(sheet)
    turns, places = pose
    heights = []
    for side in ("left", "right"):
        ankle = INDEX[f"{side}_ankle"]
        heights += [(places[:, ankle] + rot.rotate(turns[:, ankle], p))[:, 1] for p in (sole.heel, sole.ball)]
    lowest = np.min(heights, axis=0)
    assert lowest.min() > -0.02
    assert lowest.max() < 0.02  # one foot is always down


def test_standing_feet_stay(clip):
    standing = contacts.detect(clip)
    assert (standing.mean(axis=0) > 0.4).all()
    assert contacts.slide(clip, standing) < 0.015


def test_it_walks_then_turns_then_waves(pose):
    turns, places = pose
    root = places[:, 0]
    assert np.linalg.norm((root[105] - root[20]) * (1, 0, 1)) > 2.5
    facing = rot.heading(turns[:, 0])
    yaw = np.degrees(np.unwrap(np.arctan2(facing[:, 0], facing[:, 1])))
    assert abs(yaw[:100] - 90).max() < 15
    assert abs(yaw[150:]).max() < 15
    # arms swing against the legs: along the walk, the left hand and the left foot are on opposite sides of the hips
    walk = slice(35, 101)
    hand, foot = (places[walk, INDEX[j], 0] - root[walk, 0] for j in ("left_wrist", "left_ankle"))
    assert np.corrcoef(hand, foot)[0, 1] < -0.8
    wave = places[170:206, INDEX["right_wrist"]]
    assert (wave[:, 1] > places[170:206, INDEX["neck"], 1]).all()
    sway = np.sign(np.diff(wave[:, 0]))
    assert (np.diff(sway[sway != 0]) != 0).sum() >= 4


def test_knees_and_elbows_bend_the_human_way(clip):
    def about(joint: str) -> np.ndarray:
        return np.degrees(rot.log(clip.rotations[:, INDEX[joint]].astype(float)))

    assert about("left_knee")[:, 0].min() > -5
    assert about("right_knee")[:, 0].min() > -5
    assert about("left_elbow")[:, 1].max() < 5
    assert about("right_elbow")[:, 1].min() > -5
    assert max(about("left_knee")[:, 0].max(), about("right_knee")[:, 0].max()) > 45


def test_the_clip_is_baked_from_the_key_poses_that_lie_beside_it(clip, make_clip, sheet):
    frames, rotations, roots = make_clip.place(sheet)
    assert frames[-1] == len(clip) - 1
    away = np.degrees(rot.angle(rotations, clip.rotations[frames].astype(float)))
    assert away.mean() < 1.5
    assert np.linalg.norm(roots - clip.root[frames], axis=-1).max() < 0.03


def commands(text: str) -> list[list[str]]:
    """The words of every engine command that a page shows."""
    text = re.sub(r"\\\n\s*", " ", text)
    found = re.findall(r"python -m mmdm_engine ([^`\n#]+)", text)
    return [shlex.split(line) for line in found]


def test_every_command_that_the_pages_show_exists_with_its_options():
    from argparse import ArgumentParser, _SubParsersAction

    shown = [words for page in PAGES for words in commands(page.read_text())]
    assert len(shown) >= 8
    for words in shown:
        if words[0] not in COMMANDS and re.fullmatch(r"[a-z]+", words[0]) is None:
            continue  # `--help`, `COMMAND`, `…`
        assert words[0] in COMMANDS, words
        add_arguments, _ = COMMANDS[words[0]].parts()
        parser = ArgumentParser()
        add_arguments(parser)
        for action in parser._actions:  # `evaluate TASK` and its like have the options with the task
            if isinstance(action, _SubParsersAction) and len(words) > 1 and words[1] in action.choices:
                parser = action.choices[words[1]]
        options = {option for action in parser._actions for option in action.option_strings}
        assert {w.split("=")[0] for w in words if w.startswith("--")} <= options, words


def test_every_script_and_benchmark_that_the_pages_show_is_there():
    for page in PAGES:
        text = page.read_text()
        for name in set(re.findall(r"\bscripts/([a-z_]+)\b", text)):
            assert (ROOT / "scripts" / name).is_file(), f"{page.name}: scripts/{name}"
        for name in set(re.findall(r"python (benchmarks/[a-z_]+\.py)", text)):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_every_link_and_picture_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text().replace("\n", " ")):
            if not target.startswith("http"):
                assert (page.parent / target).is_file(), f"{page.name}: {target}"
    assert all(p.stat().st_size < 400_000 for p in (ROOT / "docs" / "pictures").glob("*.png"))


# --- scripts --------------------------------------------------------------------------------------------------------


def bash(line: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def checkout(tmp_path):
    """The scripts and what they read, elsewhere, without any environment."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_run(name):
    assert os.access(ROOT / "scripts" / name, os.X_OK)
    assert bash(f"bash -n scripts/{name} && bash -n scripts/environment").returncode == 0


def test_an_unknown_option_is_one_sentence():
    outcome = bash("scripts/test --everything")
    assert outcome.returncode == 1
    assert outcome.stderr == "error: there is no option --everything; there are --all, --quick, --cuda and --help.\n"


def test_a_machine_without_the_python_gets_one_sentence(checkout):
    outcome = bash("source scripts/environment; python_of() { echo 3.99; }; environment 5.0", checkout)
    assert outcome.returncode == 1
    assert re.fullmatch(r"error: Python 3\.99 .* was not found; install it .*\n", outcome.stderr)


def test_a_full_disk_gets_one_sentence(checkout):
    outcome = bash("source scripts/environment; _need_space . 99999999", checkout)
    assert outcome.returncode == 1
    assert re.fullmatch(r"error: there are \d+ GB free .*; free some\.\n", outcome.stderr)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError: Failed to establish a new connection: [Errno 101]", "check the network"),
        ("ERROR: No matching distribution found for bpy==4.5.15", "No matching distribution found for bpy==4.5.15"),
    ],
)
def test_a_failed_installation_is_explained_in_one_sentence(checkout, log, words):
    (checkout / "log").write_text(log + "\n")
    outcome = bash("source scripts/environment; _explain log", checkout)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("\n") == 1
    assert words in outcome.stderr


def test_a_missing_library_names_the_packages(checkout):
    folder = checkout / ".venv" / "5.0" / "bin"
    folder.mkdir(parents=True)
    python = folder / "python"
    python.write_text('#!/bin/sh\necho "ImportError: libXi.so.6: cannot open shared object file" >&2\nexit 1\n')
    python.chmod(0o755)
    outcome = bash("source scripts/environment; _check_bpy 5.0", checkout)
    assert outcome.returncode == 1
    assert "libXi.so.6" in outcome.stderr
    assert "apt-get install" in outcome.stderr
    assert "libxi6" in outcome.stderr


def test_a_complete_environment_is_used_as_it_is_and_another_recipe_is_not(checkout):
    folder = checkout / ".venv" / "5.0"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(shutil.which("true") or "/bin/true")
    stamp = bash("source scripts/environment; _stamp_of 5.0", checkout).stdout
    (folder / "complete").write_text(stamp)
    outcome = bash("source scripts/environment; environment 5.0", checkout)
    assert outcome.returncode == 0, outcome.stderr
    assert "is complete" in outcome.stdout
    text = (checkout / "scripts" / "environment").read_text()
    (checkout / "scripts" / "environment").write_text(text.replace("bpy==5.0.1", "bpy==5.0.2"))
    assert bash("source scripts/environment; _stamp_of 5.0", checkout).stdout != stamp
