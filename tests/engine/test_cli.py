"""The command line as a user meets it: real processes for help and failures, real BVH files for fill and refine.

Where the trained weights do not matter, the two engine functions are replaced by plain baselines.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmdm_engine
from mmdm_engine import Motion, MotionError, Skeleton, baselines, cli, load_bvh, save_bvh
from mmdm_engine import rotations as rot

ROOT = Path(__file__).resolve().parents[2]


def _process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmdm_engine", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _skeleton() -> Skeleton:
    offsets = np.zeros((22, 3))
    offsets[[1, 2]] = [[0.09, -0.06, 0], [-0.09, -0.06, 0]]
    offsets[[4, 5, 7, 8], 1] = -0.4
    offsets[[10, 11], 2] = 0.13
    offsets[[3, 6, 9, 12, 15], 1] = 0.12
    offsets[[13, 14]] = [[0.05, 0.08, 0], [-0.05, 0.08, 0]]
    offsets[[16, 18, 20], 0], offsets[[17, 19, 21], 0] = [0.1, 0.27, 0.25], [-0.1, -0.27, -0.25]
    return Skeleton(offsets)


@pytest.fixture
def take(tmp_path) -> Path:
    t = np.arange(60) / 30
    turn = 0.3 * np.sin(2 * t[:, None, None] + np.arange(66).reshape(22, 3))
    path = tmp_path / "take.bvh"
    save_bvh(Motion(rot.exp(turn), np.stack([t, 0.9 + 0 * t, 0 * t], -1), _skeleton(), 30.0), path)
    return path


@pytest.fixture
def engine(monkeypatch) -> dict[str, list[dict]]:
    """Stand-ins for the priors that write down how they were called."""
    calls: dict[str, list[dict]] = {"fill": [], "refine": []}

    def fill_gap(motion, start, stop, *, takes=1, progress=None, **options):
        if start >= stop:
            raise MotionError("The gap is empty; stop must lie after start.")
        calls["fill"].append({"start": start, "stop": stop, "takes": takes, **options})
        observed = np.ones((len(motion), 23), bool)
        observed[start:stop] = False
        progress(1, 1)
        return [motion.with_frames(*baselines.interpolate(motion.rotations, motion.root, observed))] * takes

    def refine(motion, start=0, stop=None, *, progress=None, **options):
        calls["refine"].append({"start": start, "stop": stop, **options})
        progress(1, 1)
        return motion.with_frames(motion.rotations, motion.root + np.float32(0.005) * np.array([0, 1, 0], np.float32))

    monkeypatch.setattr(mmdm_engine, "fill_gap", fill_gap, raising=False)
    monkeypatch.setattr(mmdm_engine, "refine", refine, raising=False)
    return calls


def test_without_a_command_it_says_what_there_is():
    done = _process()
    assert done.returncode == 2
    for name in ("fill", "refine", "evaluate", "train", "pack", "worker"):
        assert f"\n  {name} " in done.stdout
    assert _process("--help").returncode == 0
    assert _process("--version").stdout.strip() == mmdm_engine.__version__


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "example" in out
    assert f"python -m mmdm_engine {name} " in out.partition("example")[2]


def test_help_loads_neither_torch_nor_scipy():
    code = (
        "import sys; from mmdm_engine import cli\n"
        "for words in (['--help'], ['fill', '--help'], ['evaluate', '--help']):\n"
        "    try: cli.main(words)\n"
        "    except SystemExit: pass\n"
        "print([m for m in ('torch', 'scipy.signal', 'rich') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluate", "inbetween", "--data", "nowhere.npz"], "There is no pack at nowhere.npz"),
        (["fill", "nowhere.bvh", "out.bvh", "--start", "3", "--stop", "9"], "nowhere.bvh"),
        (["refine", "nowhere.bvh", "out.bvh"], "nowhere.bvh"),
        (["evaluate", "inbetween", "--data", "pyproject.toml"], "pyproject.toml"),
    ],
)
def test_failures_are_one_sentence_and_a_status(words, sentence):
    done = _process(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]


def test_unknown_command_and_missing_arguments():
    done = _process("inbetween")
    assert done.returncode == 2
    assert "there is no command inbetween" in done.stderr
    assert _process("fill", "a.bvh", "b.bvh").returncode == 2


def test_fill_writes_every_take_and_passes_the_options_on(take, engine, tmp_path, capsys):
    out = tmp_path / "out.bvh"
    words = ["fill", str(take), str(out), "--start", "20", "--stop", "40", "--keep", "25,30", "--takes", "3"]
    assert cli.main([*words, "--seed", "7", "--joints", "left_knee, head", "--label", "walk", "--no-foot-lock"]) == 0
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.bvh", "out_2.bvh", "out_3.bvh"]
    (call,) = engine["fill"]
    assert call == {
        "start": 20, "stop": 40, "takes": 3, "keep": [25, 30], "seed": 7, "joints": ["left_knee", "head"],
        "label": "walk", "one_sided": False, "lock_feet": False, "prior": None, "device": "auto",
    }  # fmt: skip
    assert "Frames 20 to 39 filled" in capsys.readouterr().out
    before, after = load_bvh(take), load_bvh(out)
    inside = np.degrees(rot.angle(before.rotations, after.rotations)).max(axis=-1)
    assert inside[20:40].max() > 1
    assert max(inside[:20].max(), inside[40:].max()) < 1e-3
    # the numbers of frames outside the gap are those of the source, digit for digit
    source, result = (p.read_text().splitlines() for p in (take, out))
    assert source[-60:][:20] == result[-60:][:20]
    assert source[-20:] == result[-20:]


def test_refine_reports_how_far_joints_moved(take, engine, tmp_path, capsys):
    out = tmp_path / "clean.bvh"
    assert cli.main(["refine", str(take), str(out), "--strength", "0.5", "--start", "10", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mean_change_mm"] == pytest.approx(5, abs=0.01)
    assert report["frames"] == 60
    assert report["output"] == str(out)
    assert engine["refine"][0]["strength"] == 0.5
    assert engine["refine"][0]["start"] == 10
    np.testing.assert_allclose(load_bvh(out).root[:, 1], load_bvh(take).root[:, 1] + 0.005, atol=1e-5)


def test_fill_json_names_the_files(take, engine, tmp_path, capsys):
    out = tmp_path / "filled.bvh"
    words = ["fill", str(take), str(out), "--start", "20", "--stop", "40", "--takes", "2", "--json"]
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["takes"] == [str(out), str(tmp_path / "filled_2.bvh")]
    assert all(Path(p).is_file() for p in report["takes"])
    assert report["leg_length_m"] == pytest.approx(0.8, abs=1e-3)


def test_engine_errors_leave_no_file(take, engine, tmp_path, capsys):
    out = tmp_path / "out.bvh"
    assert cli.main(["fill", str(take), str(out), "--start", "40", "--stop", "20"]) == 1
    assert capsys.readouterr().err == "error: The gap is empty; stop must lie after start.\n"
    assert not out.exists()
    assert cli.main(["fill", str(take), str(out), "--start", "2", "--stop", "9", "--takes", "0"]) == 1
    assert cli.main(["refine", str(take), str(out), "--scale", "-1"]) == 1
    assert not out.exists()


def test_an_output_that_cannot_be_written_is_a_sentence(take, engine, tmp_path, capsys):
    out = tmp_path / "no" / "such" / "folder" / "out.bvh"
    assert cli.main(["refine", str(take), str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "folder" in error
    assert error.count("\n") == 1


def test_interrupt_is_quiet(take, monkeypatch, tmp_path, capsys):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(mmdm_engine, "refine", stop, raising=False)
    assert cli.main(["refine", str(take), str(tmp_path / "o.bvh")]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_fault_of_the_program_is_a_sentence_too_and_the_traceback_is_one_variable_away(
    take, monkeypatch, tmp_path, capsys
):
    def broken(*args, **options):
        raise KeyError("hips")

    monkeypatch.setattr(mmdm_engine, "refine", broken, raising=False)
    words = ["refine", str(take), str(tmp_path / "o.bvh")]
    monkeypatch.delenv("MMDM_TRACEBACK", raising=False)
    assert cli.main(words) == 70
    error = capsys.readouterr().err
    assert "KeyError: 'hips'" in error
    assert error.count("\n") == 1
    monkeypatch.setenv("MMDM_TRACEBACK", "1")
    with pytest.raises(KeyError):
        cli.main(words)


def test_bad_frame_list_is_refused(take, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["fill", str(take), str(tmp_path / "o.bvh"), "--start", "2", "--stop", "9", "--keep", "a,b"])
    assert end.value.code == 2
    assert "45,50" in capsys.readouterr().err
