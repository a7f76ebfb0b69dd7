"""In-betweens and filters: exact where they can be, and Blender's own curves as the anchor for Bézier."""

from __future__ import annotations

import numpy as np
import pytest

from mmdm_engine import Motion, Skeleton, baselines
from mmdm_engine import rotations as rot

torch = pytest.importorskip("torch")

FRAMES = 24


def _random(batch: tuple[int, ...] = (), frames: int = FRAMES, seed: int = 0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    q = rot.normalize(rng.normal(size=(*batch, frames, 22, 4)))
    return q.astype(dtype), rng.normal(size=(*batch, frames, 3)).astype(dtype)


def _gap(start: int = 8, stop: int = 16, frames: int = FRAMES) -> np.ndarray:
    observed = np.ones((frames, 23), bool)
    observed[start:stop] = False
    return observed


def _about_x(degrees: np.ndarray) -> np.ndarray:
    half = np.radians(np.asarray(degrees, float)) / 2
    return np.stack([np.cos(half), np.sin(half), 0 * half, 0 * half], axis=-1)


def test_interpolate_turns_and_moves_evenly():
    rotations = np.broadcast_to(_about_x(np.linspace(0, 115, FRAMES))[:, None], (FRAMES, 22, 4))
    root = np.linspace(0, 23, FRAMES)[:, None] * [1.0, 0.5, 0.0]
    hidden_q, hidden_p = rotations.copy(), root.copy()
    hidden_q[8:16], hidden_p[8:16] = np.nan, np.nan
    q, p = baselines.interpolate(hidden_q, hidden_p, _gap())
    np.testing.assert_allclose(q, rotations, atol=1e-12)
    np.testing.assert_allclose(p, root, atol=1e-12)


def test_interpolate_agrees_with_slerp_per_column_and_keeps_observed_bits():
    rotations, root = _random()
    observed = np.random.default_rng(1).random((FRAMES, 23)) < 0.4
    observed[[0, -1]] = True
    q, p = baselines.interpolate(rotations, root, observed)
    for column in (0, 5, 21, 22):
        keys = np.flatnonzero(observed[:, column])
        for t in range(FRAMES):
            a, b = keys[keys <= t].max(), keys[keys >= t].min()
            part = (t - a) / (b - a) if b > a else 0.0
            if column == 22:
                np.testing.assert_allclose(p[t], root[a] + part * (root[b] - root[a]), atol=1e-12)
            else:
                assert rot.angle(q[t, column], rot.slerp(rotations[a, column], rotations[b, column], part)) < 1e-7
    np.testing.assert_array_equal(q[observed[:, :22]], rotations[observed[:, :22]])
    np.testing.assert_array_equal(p[observed[:, 22]], root[observed[:, 22]])


def test_interpolate_holds_the_ends_and_survives_a_column_without_keys():
    rotations, root = _random()
    observed = np.zeros((FRAMES, 23), bool)
    observed[5:9] = True
    observed[:, 3] = False
    rotations[~observed[:, :22]] = np.nan
    q, p = baselines.interpolate(rotations, root, observed)
    np.testing.assert_allclose(q[0, 0], rotations[5, 0], atol=1e-15)
    np.testing.assert_allclose(q[-1, 0], rotations[8, 0], atol=1e-15)
    np.testing.assert_array_equal(p[-1], root[8])
    np.testing.assert_array_equal(q[:, 3], np.broadcast_to(rot.IDENTITY, (FRAMES, 4)))
    assert np.isfinite(q).all()


def test_interpolate_takes_the_shorter_way():
    rotations = np.broadcast_to(_about_x(np.linspace(0, 46, FRAMES))[:, None], (FRAMES, 22, 4)).copy()
    rotations[16:] *= -1
    q, _ = baselines.interpolate(rotations, np.zeros((FRAMES, 3)), _gap())
    assert np.degrees(rot.angle(q, rotations)).max() < 1e-5


def test_interpolate_is_the_same_in_torch_batched_and_float32():
    rotations, root = _random((3, 2), dtype=np.float32)
    observed = np.random.default_rng(2).random((3, 2, FRAMES, 23)) < 0.5
    one = baselines.interpolate(rotations, root, observed)
    two = baselines.interpolate(*(torch.from_numpy(x) for x in (rotations, root, observed)))
    for a, b in zip(one, two, strict=True):
        assert a.dtype == np.float32
        assert b.dtype == torch.float32
        np.testing.assert_allclose(a, b.numpy(), atol=1e-6)
    alone = baselines.interpolate(rotations[1, 0], root[1, 0], observed[1, 0])
    np.testing.assert_array_equal(alone[0], one[0][1, 0])
    shared = baselines.interpolate(rotations, root, observed[1, 0])
    np.testing.assert_array_equal(shared[1][1, 0], one[1][1, 0])


def test_interpolate_has_finite_gradients_even_between_equal_keys_and_beside_nan():
    rotations, root = _random()
    rotations[16] = rotations[7]
    rotations[8:16] = np.nan
    q, p = torch.tensor(rotations, requires_grad=True), torch.tensor(root, requires_grad=True)
    a, b = baselines.interpolate(q, p, torch.from_numpy(_gap()))
    (a.sum() + b.sum()).backward()
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(p.grad).all()
    assert float(q.grad[8:16].abs().max()) == 0
    assert float(q.grad[7].abs().min()) > 0


def test_zero_velocity_repeats_the_last_key():
    rotations, root = _random((2,))
    rotations[:, 8:16] = np.nan
    q, p = baselines.zero_velocity(rotations, root, _gap())
    np.testing.assert_array_equal(q[:, 8:16], np.repeat(rotations[:, 7:8], 8, axis=1))
    np.testing.assert_array_equal(p[:, 8:16], np.repeat(root[:, 7:8], 8, axis=1))
    np.testing.assert_array_equal(q[:, 16:], rotations[:, 16:])


@pytest.mark.parametrize("kind", ["dense", "sparse", "monotone"])
def test_bezier_curve_is_what_blender_draws(kind):
    bpy = pytest.importorskip("bpy")
    rng = np.random.default_rng(3)
    keys = np.r_[0:12, 30:42] if kind == "dense" else np.array([0, 7, 12, 25, 40, 41, 60])
    steps = rng.normal(size=(len(keys), 12))
    values = np.cumsum(np.abs(steps) if kind == "monotone" else steps, axis=0)
    at = np.arange(-2, keys[-1] + 3, 0.5)
    ours = baselines.bezier_curve(keys, values, at)
    action = bpy.data.actions.new("bezier")
    try:
        if hasattr(action, "fcurves"):
            curves = action.fcurves
        else:
            slot = action.slots.new("OBJECT", "bezier")
            strip = action.layers.new("layer").strips.new(type="KEYFRAME")
            curves = strip.channelbag(slot, ensure=True).fcurves
        for c in range(values.shape[1]):
            curve = curves.new(f"channel{c}")
            curve.auto_smoothing = "CONT_ACCEL"
            curve.keyframe_points.add(len(keys))
            curve.keyframe_points.foreach_set("co", np.stack([keys, values[:, c]], 1).ravel().astype(np.float32))
            for point in curve.keyframe_points:
                point.interpolation = "BEZIER"
                point.handle_left_type = point.handle_right_type = "AUTO_CLAMPED"
            curve.update()
            theirs = [curve.evaluate(float(f)) for f in at]
            np.testing.assert_allclose(ours[:, c], theirs, atol=2e-5)
    finally:
        bpy.data.actions.remove(action)


@pytest.mark.parametrize("channels", ["quaternion", "euler"])
def test_bezier_rotations_keep_keys_pass_through_the_curve_and_ignore_the_gap(channels):
    degrees = 40 * np.sin(np.arange(FRAMES) / 4)
    rotations = np.broadcast_to(_about_x(degrees)[:, None], (2, FRAMES, 22, 4)).astype(np.float32)
    root = np.broadcast_to(np.stack([degrees, degrees, degrees], -1), (2, FRAMES, 3)).astype(np.float32)
    observed = np.stack([_gap(), _gap(10, 12)])
    observed[0, :, 4] = False
    hidden = rotations.copy()
    hidden[~observed[..., :22]] = np.nan
    q, p = baselines.bezier(hidden, root, observed, channels)
    np.testing.assert_array_equal(q[observed[..., :22]], rotations[observed[..., :22]])
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(q[0, :, 4], np.broadcast_to(rot.IDENTITY, (FRAMES, 4)).astype(np.float32))
    keys = np.flatnonzero(observed[1, :, 0])
    curve = baselines.bezier_curve(keys, degrees[keys, None], np.array([10, 11]))[:, 0]
    np.testing.assert_allclose(p[1, 10:12, 0], curve, rtol=1e-5)
    # about one axis Euler keys follow the curve of the angle itself, quaternions nearly
    found = np.degrees(2 * np.arctan2(q[1, 10:12, 7, 1], q[1, 10:12, 7, 0]))
    np.testing.assert_allclose(found, curve, atol=1e-4 if channels == "euler" else 0.1)


def test_bezier_refuses_unknown_channels():
    with pytest.raises(ValueError, match="quaternion or euler"):
        baselines.bezier(*_random(), _gap(), channels="matrix")


def _wave(frames: int = 90, fps: float = 30.0) -> Motion:
    t = np.arange(frames) / fps
    angles = 40 * np.sin(2 * np.pi * 0.6 * t[:, None] + np.arange(22))
    root = np.stack([t, 0.9 + 0.05 * np.sin(4 * t), 0.3 * t], -1)
    offsets = np.zeros((22, 3))
    offsets[1:, 1] = 0.2
    return Motion(_about_x(angles), root, Skeleton(offsets), fps)


def _noisy(motion: Motion, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    turn = rot.exp(rng.normal(scale=np.radians(5), size=(len(motion), 22, 3)))
    root = motion.root + rng.normal(scale=0.02, size=motion.root.shape)
    return motion.with_frames(rot.multiply(motion.rotations.astype(float), turn), root)


def _error(clean, other) -> float:
    angles = [np.degrees(rot.angle(a.rotations, b.rotations)).mean() for a, b in zip(clean, other, strict=True)]
    return float(np.mean(angles))


@pytest.mark.parametrize("kind", baselines.FILTERS)
def test_filters_keep_a_still_pose_and_unit_length(kind):
    still = _wave().with_frames(np.repeat(_wave().rotations[5:6], 60, 0), np.repeat(_wave().root[5:6], 60, 0))
    for settings in baselines.grid(kind)[::5]:
        out = baselines.Filter(kind, settings, settings)([still])[0]
        np.testing.assert_allclose(out.rotations, still.rotations, atol=1e-6)
        np.testing.assert_allclose(out.root, still.root, atol=1e-6)


@pytest.mark.parametrize("kind", baselines.FILTERS)
def test_filters_do_not_care_about_signs_axes_or_batching(kind):
    settings = baselines.grid(kind)[3]
    filter_ = baselines.Filter(kind, settings, settings)
    motion = _noisy(_wave())
    plain = filter_([motion])[0]
    flips = np.where(np.random.default_rng(4).random((len(motion), 22, 1)) < 0.5, -1, 1)
    flipped = filter_([motion.with_frames(motion.rotations * flips, motion.root)])[0]
    assert np.degrees(rot.angle(plain.rotations.astype(float), flipped.rotations.astype(float))).max() < 1e-3
    turn = rot.normalize(np.array([0.3, -0.5, 0.2, 0.7]))
    turned = filter_([motion.with_frames(rot.multiply(turn, motion.rotations.astype(float)), motion.root)])[0]
    expected = rot.multiply(turn, plain.rotations.astype(float))
    assert np.degrees(rot.angle(turned.rotations.astype(float), expected)).max() < 1e-3
    several = filter_([_noisy(_wave(), 9), motion.slice(0, 50), motion])
    np.testing.assert_array_equal(several[2].rotations, plain.rotations)
    assert [len(m) for m in several] == [90, 50, 90]


@pytest.mark.parametrize("frames", [1, 2, 3, 6])
@pytest.mark.parametrize("kind", baselines.FILTERS)
def test_filters_survive_very_short_takes(kind, frames):
    motion = _noisy(_wave()).slice(0, frames)
    for settings in baselines.grid(kind)[::4]:
        out = baselines.Filter(kind, settings, settings)([motion])[0]
        assert len(out) == frames
        assert np.isfinite(out.rotations).all()
        assert np.isfinite(out.root).all()


def test_zero_phase_filters_follow_a_steady_path_to_its_ends():
    root = np.linspace(0, 3, 60)[:, None] * [1.0, 0.0, 2.0]
    for kind in ("gaussian", "savitzky_golay", "butterworth"):
        for settings in baselines.grid(kind)[::4]:
            np.testing.assert_allclose(
                baselines.Filter(kind, settings, settings).apply_root(root, 30.0), root, atol=1e-3
            )


def test_settings_are_in_seconds():
    """Twice the frame rate, the same curve: the filtered result agrees where the frames coincide."""
    slow, fast = _wave(90, 30.0), _wave(180, 60.0)
    for kind, settings, limit in (
        ("gaussian", {"sigma": 0.1}, 0.3),
        ("butterworth", {"cutoff": 2.0, "order": 2}, 0.3),
        ("savitzky_golay", {"window": 0.5, "order": 2}, 0.5),
        ("one_euro", {"min_cutoff": 1.0, "beta": 1.0}, 2.0),
    ):
        filter_ = baselines.Filter(kind, settings, settings)
        a, b = filter_([slow])[0], filter_([fast])[0]
        middle = slice(20, 70)
        angle = rot.angle(a.rotations[middle], b.rotations[::2][middle])
        assert np.degrees(angle).max() < limit, kind


def test_one_euro_is_the_published_recursion():
    x = np.array([0.0, 1.0, 1.5, 0.5])[:, None] * np.ones((4, 3))
    out = baselines.Filter("one_euro", {"min_cutoff": 1.0, "beta": 0.5}, {"min_cutoff": 1.0, "beta": 0.5})
    found = out.apply_root(x, 10.0)

    def alpha(cutoff: float) -> float:
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau * 10.0)

    result, velocity = x[0], np.zeros(3)
    for t in range(1, 4):
        velocity = alpha(1.0) * (x[t] - x[t - 1]) * 10 + (1 - alpha(1.0)) * velocity
        share = alpha(1.0 + 0.5 * np.linalg.norm(velocity))
        result = share * x[t] + (1 - share) * result
        np.testing.assert_allclose(found[t], result, rtol=1e-12)


@pytest.mark.parametrize("kind", baselines.FILTERS)
def test_tune_beats_the_noise_and_every_shared_setting(kind):
    clean = [_wave()]
    noisy = [_noisy(clean[0])]
    steps = []
    best, score = baselines.tune(kind, noisy, clean, _error, lambda done, of: steps.append((done, of)))
    shared = [_error(clean, baselines.Filter(kind, s, s)(noisy)) for s in baselines.grid(kind)]
    assert score == pytest.approx(_error(clean, best(noisy)))
    assert score <= min(shared)
    assert score < 0.85 * _error(clean, noisy)
    assert steps[-1][0] == steps[-1][1]
    assert kind in str(best)


def test_grid_refuses_an_unknown_filter():
    with pytest.raises(ValueError, match="unknown filter"):
        baselines.grid("median")
