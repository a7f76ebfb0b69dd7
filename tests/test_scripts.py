"""What the README promises outside the packages: the demo clip, the scripts, the commands and the links."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mmdm_engine as mmdm
from mmdm_engine import contacts, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.cli import COMMANDS
from mmdm_engine.contract.skeleton import INDEX

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ["build", "demo", "lock_environments", "make_demo_clip", "test"]


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
        for name in set(re.findall(r"\bscripts/([a-z_]+(?:\.py)?)\b", text)):
            assert (ROOT / "scripts" / name).exists(), f"{page.name}: scripts/{name}"
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
    shutil.copytree(ROOT / "mmdm_addon" / "requirements", tmp_path / "mmdm_addon" / "requirements")
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
    outcome = bash("source scripts/environment; _need_space . 99999999 'Blender 5.0'", checkout)
    assert outcome.returncode == 1
    assert re.fullmatch(r"error: there are \d+ GB free .*Blender 5\.0 needs .*run this again\.\n", outcome.stderr)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("NewConnectionError: Failed to establish a new connection: [Errno 101]", "check the network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "not the one that was locked"),
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


def test_a_complete_environment_is_used_as_it_is_and_another_lock_is_not(checkout):
    folder = checkout / ".venv" / "5.0"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(shutil.which("true") or "/bin/true")
    stamp = bash("source scripts/environment; _stamp_of 5.0 .venv/5.0", checkout).stdout
    (folder / "complete").write_text(stamp)
    outcome = bash("source scripts/environment; environment 5.0", checkout)
    assert outcome.returncode == 0, outcome.stderr
    assert "is complete" in outcome.stdout
    lock = checkout / "scripts" / "locks" / "5.0.txt"
    lock.write_text(lock.read_text().replace("bpy==5.0.1", "bpy==5.0.2"))
    assert bash("source scripts/environment; _stamp_of 5.0 .venv/5.0", checkout).stdout not in ("", stamp)


def test_without_a_network_one_sentence_and_the_next_run_goes_on(checkout):
    """A real environment, whose packages cannot be fetched: nothing answers at the index."""
    (checkout / "pip.conf").write_text("")
    offline = {
        "PIP_CONFIG_FILE": str(checkout / "pip.conf"),
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
    }
    line = "source scripts/environment; BLENDER_INDEX=; environment 5.0"
    outcome = bash(line, checkout, **offline)
    assert outcome.returncode == 1
    assert re.fullmatch(
        r"error: packages could not be downloaded; check the network .* run this again\.\n", outcome.stderr
    )
    python = checkout / ".venv" / "5.0" / "bin" / "python"
    made = python.lstat().st_mtime_ns
    packages = next((checkout / ".venv" / "5.0" / "lib").glob("python*/site-packages"))
    (packages / "interrupted-1.0.dist-info").mkdir()  # pip was killed before it wrote RECORD
    outcome = bash("source scripts/environment; _install_lock() { return 1; }; environment 5.0", checkout)
    assert outcome.stderr.startswith("error: pip could not install")
    assert python.lstat().st_mtime_ns == made  # not begun anew
    assert not (packages / "interrupted-1.0.dist-info").exists()
    assert next(packages.glob("pip-*.dist-info")).is_dir()
    assert not (checkout / ".venv" / "5.0" / "complete").exists()


def test_the_build_of_torch_stays_what_it_was_made_with(checkout):
    (checkout / ".venv" / "4.5").mkdir(parents=True)
    ask = "source scripts/environment; _build_of .venv/4.5"
    assert bash(ask, checkout).stdout == "cpu\n"
    (checkout / ".venv" / "4.5" / "torch").write_text("cuda\n")
    assert bash(ask, checkout).stdout == "cuda\n"
    assert bash(ask, checkout, TORCH_BUILD="cpu").stdout == "cpu\n"


def test_a_machine_without_a_lock_gets_one_sentence(checkout):
    outcome = bash("source scripts/environment; uname() { echo Plan9; }; _engine_lock cpu", checkout)
    assert outcome.returncode == 1
    assert re.fullmatch(r"error: there is no PyTorch for Plan9 .* macOS on arm64\.\n", outcome.stderr)


# --- locks ----------------------------------------------------------------------------------------------------------


def pinned(lock: Path) -> dict[str, tuple[str, int]]:
    """Name → version and number of digests of each package in a lock."""
    found: dict[str, tuple[str, int]] = {}
    for block in re.split(r"\n(?=[a-z])", lock.read_text()):
        if match := re.match(r"([a-z0-9-]+)==([^ ]+)", block):
            found[match[1]] = (match[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return found


@pytest.mark.parametrize("version", ["4.2", "4.5", "5.0", "5.2"])
def test_every_package_of_an_environment_is_locked_with_digests_for_all_systems(version):
    packages = pinned(ROOT / "scripts" / "locks" / f"{version}.txt")
    assert packages["bpy"][0].startswith(version)
    assert packages["bpy"][1] >= 3  # Linux, macOS, Windows
    assert {"numpy", "scipy", "array-api-compat", "pytest", "hypothesis"} <= set(packages)
    assert all(digests for _, digests in packages.values())
    assert "torch" not in packages  # comes from the engine's lock


def test_the_development_environment_has_the_versions_that_the_extension_installs():
    development = pinned(ROOT / "scripts" / "locks" / "4.5.txt")
    for lock in (ROOT / "mmdm_addon" / "requirements").glob("*-py311.txt"):
        engine = pinned(lock)
        shared = set(engine) & set(development) - {"numpy"}
        assert {"scipy", "safetensors", "array-api-compat"} <= shared
        assert {n: development[n][0] for n in shared} == {n: engine[n][0] for n in shared}, lock.name


def test_what_pyproject_wants_is_in_the_lock():
    """pip installs the lock and nothing beside it, so that a new dependency must be locked to be there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packages = pinned(ROOT / "scripts" / "locks" / "4.5.txt")
    for text in (*project["dependencies"], *extras["blender"], *extras["test"]):
        wanted = Requirement(text)
        if wanted.name != "torch":
            name = canonicalize_name(wanted.name)
            assert name in packages, f"{name}: run scripts/lock_environments"
            assert packages[name][0] in wanted.specifier, f"{name}: run scripts/lock_environments"


def test_what_is_taken_out_of_a_lock_goes_with_its_digests(checkout):
    (checkout / "lock").write_text("# top\na==1 \\\n    --hash=sha256:1\nnumpy==2 \\\n    --hash=sha256:2\nb==3\n")
    outcome = bash("source scripts/environment; without numpy < lock", checkout)
    assert outcome.stdout == "a==1 \\\n    --hash=sha256:1\nb==3\n"


@pytest.mark.skipif(not all(map(shutil.which, ("dpkg", "ldd", "objdump"))), reason="needs Debian with binutils")
def test_the_readme_names_every_library_that_blenders_module_needs():
    folder = Path(str(distribution("bpy").locate_file("bpy"))).resolve()
    module = folder / "__init__.so"
    places = {name: Path(place) for name, place in re.findall(r"(\S+) => (/\S+)", bash(f"ldd '{module}'").stdout)}
    bundled = [module, *(place for place in places.values() if place.resolve().is_relative_to(folder))]
    needed = {name for path in bundled for name in re.findall(r"NEEDED\s+(\S+)", bash(f"objdump -p '{path}'").stdout)}
    named = set(bash("source scripts/environment; echo $LIBRARIES").stdout.split())
    base = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}  # on every Debian that has Python
    outside = {name: places[name] for name in needed & set(places) if places[name] not in bundled}
    assert "libX11.so.6" in outside
    for name, place in outside.items():
        owners = bash(f"dpkg -S {place} || dpkg -S {place.resolve()}").stdout
        assert owners.split(":")[0] in named | base, f"{name}: {owners}"
    line = re.search(r"apt-get install (.+)", (ROOT / "README.md").read_text())
    assert line is not None
    assert named <= set(line[1].split())


# --- checks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def rehearsal(checkout):
    """scripts/test with stand-ins for what it starts, which note how they were called and fail where FAILING says."""
    said = f"""#!/bin/sh
echo "$@" >> {checkout}/calls
case "$*" in *"$FAILING"*) [ -z "$FAILING" ] || exit 1 ;; esac
case "$*" in *total*) echo 87.5 ;; esac
"""
    for version in ("4.2", "4.5", "5.0", "5.2"):
        (checkout / ".venv" / version / "bin").mkdir(parents=True)
        (checkout / ".venv" / version / "bin" / "python").write_text(said)
        (checkout / ".venv" / version / "bin" / "python").chmod(0o755)
        stamp = bash(f"source scripts/environment; _stamp_of {version} .venv/{version}", checkout).stdout
        (checkout / ".venv" / version / "complete").write_text(stamp)
    (checkout / "tests" / "addon").mkdir(parents=True)
    (checkout / "tests" / "addon" / "test_a.py").write_text("")

    def run(words: str, failing: str = "") -> tuple[subprocess.CompletedProcess[str], str]:
        (checkout / "calls").write_text("")
        return bash(f"scripts/test {words}", checkout, FAILING=failing), (checkout / "calls").read_text()

    return run


def test_the_suite_runs_every_gate_and_says_so(rehearsal):
    outcome, calls = rehearsal("")
    assert outcome.returncode == 0, outcome.stderr
    for gate in (
        "ruff check .",
        "ruff format --check .",
        "-m mypy",
        "pytest tests -n 2",
        "--cov",
        "test_a.py",
        "extension.py",
    ):
        assert gate in calls
    assert re.search(r"coverage, Blender 4\.5 +87\.5 %", outcome.stdout)
    assert "add-on tests, Blender 5.0" in outcome.stdout
    assert "add-on tests, Blender 4.2" not in outcome.stdout
    assert outcome.stdout.endswith("everything passed.\n")


def test_the_quick_suite_leaves_out_what_it_says(rehearsal):
    outcome, calls = rehearsal("--quick")
    assert outcome.returncode == 0, outcome.stderr
    assert "--cov" not in calls
    assert "test_a.py" not in calls


@pytest.mark.parametrize("gate", ["ruff format", "mypy", "pytest tests", "test_a.py", "extension.py"])
def test_a_gate_that_fails_fails_the_suite_and_the_rest_still_runs(rehearsal, gate):
    outcome, calls = rehearsal("", failing=gate)
    assert outcome.returncode == 1
    assert outcome.stderr.endswith("error: something failed; look above.\n")
    assert "extension.py" in calls  # the last gate
    assert "FAILED" in outcome.stdout
