"""What the public functions promise, on the shipped weights and real motion."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest

import mmdm_engine as mmdm
from mmdm_engine import contacts, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.priors import store
from mmdm_engine.priors.solve import longest_run, spans

GAP = (20, 50)


def thirty(motion, count=90):
    """The first ``count`` frames at 30 fps."""
    return mmdm.Motion(motion.rotations[::2][:count], motion.root[::2][:count], motion.skeleton, motion.fps / 2)


@pytest.fixture(scope="module")
def walk(pack_clip):
    return thirty(pack_clip("02_01"), 80)


def same_bits(a, b):
    return np.array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


def degrees(a, b):
    return np.rad2deg(rot.angle(a.rotations.astype(np.float64), b.rotations.astype(np.float64)))


def turned(motion, yaw=0.0, scale=1.0, lift=0.0):
    q = rot.about_y(np.array(yaw))
    rotations = motion.rotations.astype(np.float64).copy()
    rotations[:, 0] = rot.multiply(q, rotations[:, 0])
    root = rot.rotate(q, motion.root.astype(np.float64)) * scale + np.array([0, lift, 0])
    skeleton = mmdm.Skeleton(motion.skeleton.offsets * scale, motion.skeleton.exists)
    return mmdm.Motion(rotations, root, skeleton, motion.fps)


def fill(motion, *gap, **options):
    return mmdm.fill_gap(motion, *(gap or GAP), device="cpu", **options)[0]


def test_everything_outside_the_gap_keeps_its_bits_and_the_gap_may_be_nan(walk):
    rotations, root = walk.rotations.copy(), walk.root.copy()
    rotations[5] *= -1  # signs are part of the promise
    known = fill(walk.with_frames(rotations, root))
    rotations[20:50], root[20:50] = np.nan, np.nan
    out = fill(walk.with_frames(rotations, root))
    outside = np.r_[0:20, 50 : len(walk)]
    assert same_bits(out.rotations[outside], rotations[outside])
    assert same_bits(out.root[outside], root[outside])
    assert np.isfinite(out.rotations).all()
    assert np.isfinite(out.root).all()
    assert same_bits(out.rotations, known.rotations), "what lies in the gap must not be read"
    assert np.abs(np.linalg.norm(out.rotations, axis=-1) - 1).max() < 1e-5
    assert ((out.rotations[20:50] * out.rotations[19:49]).sum(-1) > 0).all(), "sign-continuous"


def test_the_gap_is_better_than_interpolation_on_a_walk(walk):
    from mmdm_engine.baselines import interpolate

    observed = np.ones((len(walk), 23), bool)
    observed[20:50] = False
    base = walk.with_frames(*interpolate(walk.rotations, walk.root, observed))
    truth = kinematics.positions(walk.rotations, walk.root, walk.skeleton.offsets)[20:50]
    errors = [
        np.linalg.norm(kinematics.positions(m.rotations, m.root, m.skeleton.offsets)[20:50] - truth, axis=-1).mean()
        for m in (fill(walk), base)
    ]
    assert errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("keep", [[30], [25, 26, 40]])
def test_kept_frames_are_hit_exactly_and_condition_the_rest(walk, keep):
    out, free = fill(walk, keep=keep), fill(walk)
    assert same_bits(out.rotations[keep], walk.rotations[keep])
    assert same_bits(out.root[keep], walk.root[keep])
    assert degrees(out, walk)[keep[0] + 1].mean() < degrees(free, walk)[keep[0] + 1].mean()


def test_kept_joints_and_chosen_joints_keep_their_bits(walk):
    keep = np.zeros((len(walk), 22), bool)
    keep[35, :5] = True
    out = fill(walk, keep=keep)
    assert same_bits(out.rotations[35, :5], walk.rotations[35, :5])
    assert same_bits(out.root[35], walk.root[35])
    assert not same_bits(out.rotations[35, 16], walk.rotations[35, 16])
    arm = fill(walk, joints=["left_shoulder", "left_elbow"])
    others = [j for j in range(22) if j not in (16, 18)]
    assert same_bits(arm.rotations[:, others], walk.rotations[:, others])
    assert same_bits(arm.root, walk.root)
    assert degrees(arm, walk)[20:50, 16].mean() > 0.1


def test_values_and_velocities_are_continuous_at_the_seams(walk):
    out = fill(walk, lock_feet=False)
    q = out.rotations.astype(np.float64)
    step = np.rad2deg(np.linalg.norm(rot.log(rot.multiply(rot.conjugate(q[:-1]), q[1:])), axis=-1))
    jump = np.abs(np.diff(step, axis=0))  # change of speed, degrees per frame
    seams, inside = jump[[18, 19, 48, 49]], jump[:18]
    assert seams.mean() < 2.0 * max(inside.mean(), 0.3)
    assert step[18:50].max() < 2.0 * step[:18].max() + 2.0


@pytest.mark.parametrize(
    "change", [{"yaw": 2.1}, {"scale": 100.0}, {"lift": 10.0}, {"yaw": -0.7, "scale": 0.01, "lift": -3.0}]
)
def test_yaw_scale_and_height_do_not_change_the_local_result(walk, change):
    plain, other = fill(walk, lock_feet=False), fill(turned(walk, **change), lock_feet=False)
    back = turned(plain, **change)
    assert np.rad2deg(rot.angle(other.rotations.astype(np.float64), back.rotations.astype(np.float64))).max() < 0.05
    size = change.get("scale", 1.0) * walk.skeleton.leg_length
    assert np.abs(other.root - back.root).max() < 2e-3 * size


def test_takes_differ_and_repeat_with_their_seed(walk):
    first = mmdm.fill_gap(walk, *GAP, takes=3, seed=5, device="cpu")
    again = mmdm.fill_gap(walk, *GAP, takes=3, seed=5, device="cpu")
    assert all(same_bits(a.rotations, b.rotations) for a, b in zip(first, again, strict=True))
    assert same_bits(first[0].rotations, fill(walk).rotations), "take 0 is the one-pass result"
    assert degrees(first[1], first[2])[20:50].mean() > 0.01


@pytest.mark.parametrize("length", range(1, 8))
@pytest.mark.parametrize("fps", [90, 120, 240])
def test_a_gap_of_a_few_frames_in_a_fast_take(pack_clip, fps, length):
    """Such gaps cannot be thinned out between their borders; they are solved at the rate that they have."""
    motion = pack_clip("02_01")
    fast = mmdm.Motion(motion.rotations, motion.root, motion.skeleton, fps)
    out = fill(fast, 60, 60 + length, lock_feet=False)
    assert same_bits(out.rotations[:60], fast.rotations[:60])
    assert same_bits(out.rotations[60 + length :], fast.rotations[60 + length :])
    assert degrees(out, fast)[60 : 60 + length].mean() < 5


@pytest.mark.parametrize(("fps_factor", "gap"), [(1, (60, 360)), (4, (100, 240)), (2, (40, 140))])
def test_long_gaps_and_fast_takes(pack_clip, fps_factor, gap):
    clip = pack_clip("05_02")
    motion = mmdm.Motion(clip.rotations, clip.root, clip.skeleton, 30.0 * fps_factor)
    if fps_factor == 4:
        motion = mmdm.Motion(*resample_double(clip), clip.skeleton, 120.0)
    out = fill(motion, *gap)
    outside = np.r_[0 : gap[0], gap[1] : len(motion)]
    assert same_bits(out.rotations[outside], motion.rotations[outside])
    speed = rot.angle(out.rotations[1:].astype(np.float64), out.rotations[:-1].astype(np.float64)) * motion.fps
    assert speed[gap[0] - 1 : gap[1]].max() < 25, "no pops, in radians per second"


def resample_double(clip):
    q, p = clip.rotations.astype(np.float64), clip.root.astype(np.float64)
    out = np.empty((2 * len(q) - 1, 22, 4))
    out[::2], out[1::2] = q, rot.slerp(q[:-1], q[1:], 0.5)
    root = np.empty((len(out), 3))
    root[::2], root[1::2] = p, (p[1:] + p[:-1]) / 2
    return rot.continuous(out), root


def test_one_sided_gaps_need_to_be_allowed(walk):
    for gap in ((0, 20), (60, len(walk))):
        with pytest.raises(mmdm.MotionError, match="leave at least one frame"):
            fill(walk, *gap)
        out = fill(walk, *gap, one_sided=True)
        assert np.isfinite(out.rotations).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": 50, "stop": 40}, "choose a range inside it"),
        ({"start": 10, "stop": 500}, "choose a range inside it"),
        ({"joints": ["tail"]}, "no joint named 'tail'"),
        ({"keep": [300]}, "choose frames inside it"),
        ({"keep": range(20, 50)}, "keep fewer frames"),
        ({"guidance": -1.0}, "zero or a positive number"),
        ({"steps": 99}, "sampling steps"),
        ({"prior": "nonsense"}, "no weights"),
        ({"device": "cuda:7"}, "choose auto or cpu"),
        ({"takes": 0}, "At least one take"),
    ],
)
def test_bad_requests_get_one_sentence_with_the_fix(walk, options, sentence):
    options = {"start": 20, "stop": 50, "device": "cpu", **options}
    with pytest.raises(mmdm.MotionError, match=sentence) as caught:
        mmdm.fill_gap(walk, options.pop("start"), options.pop("stop"), **options)
    assert "\n" not in str(caught.value)


def test_nan_in_the_context_names_frame_and_joint(walk):
    rotations = walk.rotations.copy()
    rotations[12, 7] = np.nan
    broken = walk.with_frames(rotations, walk.root)
    for call in (lambda: fill(broken), lambda: mmdm.refine(broken, device="cpu")):
        with pytest.raises(mmdm.MotionError, match="left_ankle in frame 12"):
            call()


def test_corrupt_weights_are_reported(walk, tmp_path):
    source = store.resolve("inbetween")
    for name, spoil in (
        ("cut", lambda b: b[: len(b) // 2]),
        ("noise", lambda b: b"\xff" * len(b)),
        ("empty", lambda b: b""),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(spoil(source.read_bytes()))
        shutil.copy(source.with_suffix(".json"), path.with_suffix(".json"))
        with pytest.raises(mmdm.MotionError, match="install them again"):
            fill(walk, prior=path)
    card = json.loads(source.with_suffix(".json").read_text())
    other = tmp_path / "other.safetensors"
    shutil.copy(source, other)
    other.with_suffix(".json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(mmdm.MotionError, match="another version"):
        fill(walk, prior=other)
    with pytest.raises(mmdm.MotionError, match="not a prior for inbetween"):
        fill(walk, prior="refinement")


def noisy(motion, angle=5.0, distance=0.02, seed=0):
    random = np.random.default_rng(seed)
    turn = rot.exp(random.normal(0, np.deg2rad(angle), (len(motion), 22, 3)))
    root = motion.root + random.normal(0, distance, motion.root.shape)
    return motion.with_frames(rot.multiply(motion.rotations.astype(np.float64), turn), root)


def mpjpe(a, b):
    p, q = (kinematics.positions(m.rotations, m.root, m.skeleton.offsets) for m in (a, b))
    return 1000 * np.linalg.norm(p - q, axis=-1).mean()


def test_refine_takes_out_noise_and_leaves_clean_motion_alone(walk):
    spoiled = noisy(walk)
    clean = mmdm.refine(spoiled, device="cpu", lock_feet=False)
    assert mpjpe(clean, walk) < 0.45 * mpjpe(spoiled, walk)
    assert degrees(clean, walk).mean() < 0.5 * degrees(spoiled, walk).mean()
    assert mpjpe(mmdm.refine(walk, device="cpu", lock_feet=False), walk) < 5.0


def test_refine_range_joints_strength_and_confidence(walk):
    spoiled = noisy(walk)
    part = mmdm.refine(spoiled, 20, 60, device="cpu")
    outside = np.r_[0:20, 60 : len(walk)]
    assert same_bits(part.rotations[outside], spoiled.rotations[outside])
    assert same_bits(part.root[outside], spoiled.root[outside])
    assert degrees(part, spoiled)[35:45].mean() > 1
    assert degrees(part, spoiled)[20].mean() < degrees(part, spoiled)[35:45].mean(), "fades in at the border"
    arm = mmdm.refine(spoiled, joints=["left_elbow"], device="cpu")
    assert same_bits(np.delete(arm.rotations, 18, 1), np.delete(spoiled.rotations, 18, 1))
    assert same_bits(arm.root, spoiled.root)
    assert same_bits(mmdm.refine(spoiled, strength=0, device="cpu").rotations, spoiled.rotations)
    half, whole = (mmdm.refine(spoiled, strength=s, device="cpu", lock_feet=False) for s in (0.5, 1.0))
    assert np.allclose(degrees(half, spoiled), degrees(whole, spoiled) / 2, atol=0.05)
    trusted = np.zeros((len(walk), 22))
    trusted[30:40] = 1
    kept = mmdm.refine(spoiled, confidence=trusted, device="cpu", lock_feet=False)
    assert same_bits(kept.rotations[30:40], spoiled.rotations[30:40])


def test_refine_doubts_what_the_motion_shows_and_what_the_capture_says(walk):
    plain, doubted = (mmdm.refine(walk, captured=c, device="cpu", lock_feet=False) for c in (None, knee_unseen(walk)))
    assert same_bits(plain.rotations[:, 4], walk.rotations[:, 4]), "nothing to be seen in it"
    assert degrees(doubted, walk)[30:50, 4].min() > 0
    assert same_bits(np.delete(doubted.rotations, 4, 1), np.delete(plain.rotations, 4, 1))
    far = round(0.5 * walk.fps)
    assert same_bits(doubted.rotations[50 + far :, 4], walk.rotations[50 + far :, 4])
    spoiled = noisy(walk)
    sure = mmdm.refine(spoiled, captured=np.ones((len(walk), 22)), device="cpu")
    assert same_bits(sure.rotations, mmdm.refine(spoiled, device="cpu").rotations), "shake is doubted all the same"
    with pytest.raises(mmdm.MotionError, match="confidence"):
        mmdm.refine(walk, captured=np.ones((3, 22)), device="cpu")


def knee_unseen(motion):
    """(T, 22) confidence of a capture that did not see the left knee in frames 30 to 49."""
    sure = np.ones((len(motion), 22))
    sure[30:50, 4] = 0
    return sure


@pytest.mark.parametrize("change", [{"yaw": 2.1}, {"scale": 100.0}, {"lift": 10.0}])
def test_refine_does_not_care_where_or_how_large_the_body_is(walk, change):
    spoiled = noisy(walk)
    a = turned(mmdm.refine(spoiled, device="cpu", lock_feet=False), **change)
    b = mmdm.refine(turned(spoiled, **change), device="cpu", lock_feet=False)
    assert np.rad2deg(rot.angle(a.rotations.astype(np.float64), b.rotations.astype(np.float64))).max() < 0.05


def test_refine_handles_fast_takes_and_short_ones(walk):
    fast = mmdm.Motion(*resample_double(noisy(walk, 2.0, 0.005)), walk.skeleton, 120.0)
    assert np.isfinite(mmdm.refine(fast, device="cpu").rotations).all()
    assert len(mmdm.refine(walk.slice(0, 4), device="cpu")) == 4
    with pytest.raises(mmdm.MotionError, match="at least four frames"):
        mmdm.refine(walk.slice(0, 3), device="cpu")
    with pytest.raises(mmdm.MotionError, match="strength"):
        mmdm.refine(walk, strength=2, device="cpu")


def test_progress_counts_up_and_can_cancel(walk):
    seen = []
    mmdm.fill_gap(walk, *GAP, takes=2, device="cpu", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1][0] == seen[-1][1]
    assert all(a[0] / a[1] <= b[0] / b[1] for a, b in pairwise(seen))

    class StopError(Exception):
        pass

    def stop(done, of):
        raise StopError

    with pytest.raises(StopError):
        mmdm.fill_gap(walk, *GAP, takes=2, device="cpu", progress=stop)
    with pytest.raises(StopError):
        mmdm.refine(walk, device="cpu", progress=stop)


def test_feet_that_are_planted_slide_less_with_the_lock(pack_clip):
    dance = thirty(pack_clip("05_09_p1"), 80)
    free, locked = fill(dance, lock_feet=False), fill(dance, lock_feet=True)
    planted = contacts.detect(locked)
    planted[: GAP[0]] = planted[GAP[1] :] = False
    assert planted.sum() > 10, "the dancer stands on her feet"

    def slide(motion):
        p = kinematics.positions(motion.rotations, motion.root, motion.skeleton.offsets)[:, [7, 10, 8, 11]]
        speed = np.linalg.norm(np.diff(p[..., [0, 2]], axis=0), axis=-1)
        return speed[planted[1:] & planted[:-1]].mean()

    assert slide(locked) < 0.5 * slide(free)


def test_the_foot_lock_respects_strength_and_confidence(walk):
    spoiled = noisy(walk)
    assert degrees(mmdm.refine(spoiled, strength=1e-4, device="cpu"), spoiled).max() < 0.05
    almost = np.full((len(walk), 22), 0.9999)
    assert degrees(mmdm.refine(spoiled, confidence=almost, device="cpu"), spoiled).max() < 0.05


def test_keys_of_single_joints_inside_a_resampled_gap_do_not_pop(pack_clip):
    clip = pack_clip("05_02")
    gap, arm = (150, 260), [16, 18]
    keep = np.zeros((len(clip), 22), bool)
    keep[gap[0] + 9 : gap[1] : 13, arm] = True
    out = fill(clip, *gap, keep=keep, lock_feet=False)
    q = out.rotations.astype(np.float64)[:, arm]
    speed = np.rad2deg(rot.log(rot.multiply(rot.conjugate(q[:-1]), q[1:])))
    kink = np.linalg.norm(np.diff(speed, axis=0), axis=-1)
    keys = np.flatnonzero(keep[:, 16]) - 1
    assert kink[keys].max() < 12


def test_the_end_of_a_fast_take_is_refined_like_its_middle(walk):
    fast = mmdm.Motion(*resample_double(walk), walk.skeleton, 120.0)
    spoiled = noisy(fast.slice(0, 150))
    error = degrees(mmdm.refine(spoiled, device="cpu", lock_feet=False), fast.slice(0, 150)).mean(axis=1)
    assert error[-3:].mean() < 2.5 * error[50:100].mean()
    tiny = mmdm.Motion(fast.rotations[:5], fast.root[:5], walk.skeleton, 300.0)
    assert len(mmdm.refine(tiny, device="cpu")) == 5


def test_fast_and_long_gaps_report_progress_and_can_be_cancelled(pack_clip):
    clip = pack_clip("05_02")
    for fps, gap in ((120.0, (100, 220)), (30.0, (100, 250))):
        seen = []
        motion = mmdm.Motion(clip.rotations, clip.root, clip.skeleton, fps)
        fill(motion, *gap, progress=lambda done, of, seen=seen: seen.append(done / of))
        assert len(seen) >= 2
        assert seen == sorted(seen)
        assert seen[-1] == 1


def test_one_gap_is_no_context_of_another(pack_clip):
    clip = pack_clip("05_02")
    keep = np.arange(190, 195)
    both = fill(clip, 100, 225, keep=keep, lock_feet=False)
    blank = clip.rotations.copy()
    blank[100:190] = np.nan
    root = clip.root.copy()
    root[100:190] = np.nan
    again = fill(clip.with_frames(blank, root), 100, 225, keep=keep, lock_feet=False)
    assert same_bits(both.rotations, again.rotations)
    alone = fill(clip.slice(190, 400), 5, 35, lock_feet=False, one_sided=False)
    assert degrees(both.slice(195, 225), alone.slice(5, 35)).mean() < 3


def test_signs_of_a_gap_at_the_start_follow_its_first_kept_frame(walk):
    flipped = walk.with_frames(-walk.rotations, walk.root)
    out = fill(flipped, 0, 20, one_sided=True)
    assert ((out.rotations[1:21] * out.rotations[:20]).sum(-1) > 0).all()


def test_keys_that_are_not_quite_unit_condition_like_unit_ones(walk):
    long = walk.with_frames(walk.rotations * np.float32(1.3), walk.root)
    plain, other = fill(walk, lock_feet=False), fill(long, lock_feet=False)
    assert degrees(plain, other)[20:50].max() < 0.05


def test_a_damaged_card_is_reported(walk, tmp_path):
    source = store.resolve("inbetween")
    path = tmp_path / "mine.safetensors"
    shutil.copy(source, path)
    card = json.loads(source.with_suffix(".json").read_text())
    for spoiled in ([], {**card, "kaa": {"wings": 2}}, {k: v for k, v in card.items() if k != "kaa"}):
        path.with_suffix(".json").write_text(json.dumps(spoiled))
        store._load.cache_clear()
        with pytest.raises(mmdm.MotionError, match="install"):
            fill(walk, prior=path)


def test_windows_cover_every_hidden_frame_with_context():
    rows = np.zeros(400, bool)
    rows[50:70] = rows[72:90] = rows[200:360] = True
    cover = np.zeros(400, bool)
    for a, b in spans(rows, 30.0):
        cover[a:b] = True
        assert b - a <= 60 + 24
    assert cover[rows].all()
    assert cover[38:50].all()
    assert longest_run(np.repeat(rows[:, None], 23, 1)) == 160
