"""Completion and refinement of joint positions: the masked model, its sliding windows, its training, its baselines."""

import json
from dataclasses import replace

import made_up
import numpy as np
import pytest
import torch

from mmdm_engine import JOINTS, MotionError, cli
from mmdm_engine.contract.skeleton import PARENTS
from mmdm_engine.joint_sets import JOINT_SETS, SHELF14, SMPL22, JointSet
from mmdm_engine.masking import adaptive_weights
from mmdm_engine.model.config import MASKED, SMOOTHNETS, DecoderConfig, KAAConfig, MaskedConfig
from mmdm_engine.model.kaa import KAA
from mmdm_engine.pack import Pack
from mmdm_engine.priors import store
from mmdm_engine.priors.masked import PositionsNetwork, SmoothNetwork, find_reference, interpolate_positions
from mmdm_engine.priors.network import parameters
from mmdm_engine.priors.positions import complete_positions, hide_by_weights, refine_positions
from mmdm_engine.training import positions as training
from mmdm_engine.training.clips import Clips
from mmdm_engine.training.positions import POSITION_TASKS, Drill

TINY = MaskedConfig(
    KAAConfig(rounds=1, joint_dim=16, pose_dim=16, heads=1, head_dim=16, time_heads=1, time_head_dim=16, ffn=16,
              time_ffn=16),
    DecoderConfig(dim=16, depth=1, heads=1, head_dim=16, ffn=16), steps=8,
)  # fmt: skip
SETS = ["rounds=1", "joint_dim=16", "pose_dim=16", "heads=1", "head_dim=16", "time_heads=1", "time_head_dim=16"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0, **changes):
    torch.manual_seed(seed)
    net = PositionsNetwork(replace(TINY, **changes)).eval()
    net.scale.fill_(0.3)
    net.state_scale.fill_(0.3)
    return net


def walk(frames=40, people=1, seed=0):
    """Smooth made-up positions (people, frames, 22, 3) in metres."""
    random = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / 30
    pose = random.normal(0, 0.4, (people, 1, 22, 3))
    sway = 0.1 * np.sin(2 * np.pi * t * random.uniform(0.3, 1, (people, 1, 22, 3)) + random.uniform(0, 6, (22, 3)))
    return (pose + sway + t * random.normal(0, 1, (people, 1, 1, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    """Twenty clips of smooth made-up motion at 60 fps."""
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 150, speed=1.0, rates=(0.5,)) for _ in range(20)]
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "made_up.npz", clips, labels=["dance"] * 20)


@pytest.fixture(scope="module")
def clips(pack_path):
    return Clips(Pack.load(pack_path))


def task(name, *overrides, size="completion_tiny"):
    kind = POSITION_TASKS[name]
    torch.manual_seed(0)
    return kind(kind.configure(size, overrides, None, None))


# --- joint sets -----------------------------------------------------------------------------------------------------


def test_joint_sets_are_sums_of_the_skeleton_and_know_their_mirror():
    for joint_set in JOINT_SETS.values():
        assert np.allclose(joint_set.weights.sum(axis=1), 1)
        swap = joint_set.mirror
        assert [swap[i] for i in swap] == list(range(len(joint_set)))
        assert len(joint_set.hips) == 2
    assert np.array_equal(SMPL22.weights, np.eye(22))
    assert SHELF14.names[SHELF14.mirror[0]] == "left_ankle"
    body = np.random.default_rng(0).normal(size=(22, 3))
    points = dict(zip(SHELF14.names, SHELF14.weights @ body, strict=True))
    neck, head = body[JOINTS.index("neck")], body[JOINTS.index("head")]
    assert np.allclose(points["top_head"], head + 2 * (head - neck), atol=1e-6)


def test_shelf14_has_the_order_of_the_annotation(data):
    with np.load(data("shelf/ground_truth.npz")) as truth:
        assert tuple(truth["joint_names"][:14]) == SHELF14.names


def test_bad_joint_sets_get_a_sentence():
    with pytest.raises(MotionError, match="one list of parts"):
        JointSet(("a",), ())
    with pytest.raises(MotionError, match="sum to 1"):
        JointSet(("a",), (((0, 0.5),),))
    with pytest.raises(MotionError, match="one name"):
        JointSet(("a", "a"), (((0, 1.0),), ((1, 1.0),)))
    with pytest.raises(MotionError, match="no partner"):
        _ = JointSet(("left_a",), (((0, 1.0),),)).mirror


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["s", "t", "s_t", "kaa_t", "kaa"])
def test_the_encoder_reads_visible_joints_alone(variant):
    torch.manual_seed(0)
    kaa = KAA(replace(TINY.kaa, variant=variant, rounds=2), 22).eval()
    h, visible = torch.randn(2, 6, 22, 16), torch.rand(2, 6, 22) > 0.5
    visible[0, 2] = False  # a pose that is hidden whole
    other = torch.where(visible[..., None], h, torch.randn_like(h))
    seconds, step = torch.linspace(-0.1, 0.1, 6).expand(2, 6), torch.full((2,), 1 / 30)
    k = torch.tensor([1, 2])
    a, b = (kaa(x, seconds, step, k, visible=visible) for x in (h, other))
    assert torch.allclose(a[0][visible], b[0][visible], atol=1e-6)
    assert a[1] is None or torch.allclose(a[1], b[1], atol=1e-6)
    seen_all = kaa(other, seconds, step, k)[0]
    changed = (seen_all - b[0])[visible].abs().max() > 1e-4
    assert changed, "without the mask hidden tokens would be read"


def test_both_readings_of_depth_count_as_they_say():
    for name, depth in (("lite", 6), ("small", 9), ("normal", 9), ("large", 12)):
        for reading, structure, time in (("", depth, depth), ("_blocks", (depth + 1) // 2, depth // 2)):
            config = replace(MASKED[f"completion_{name}{reading}"].kaa, joint_dim=8, pose_dim=8, ffn=8, time_ffn=8)
            kaa = KAA(config, 22)
            assert sum(r.structure is not None for r in kaa.rounds) == structure
            assert sum(len(r.time) for r in kaa.rounds) == time


@pytest.mark.parametrize("joint_set", ["smpl22", "shelf14"])
@pytest.mark.parametrize("changes", [{}, {"objective": "noise"}, {"diffusion": False}, {"residual": True},
                                     {"reference": "hip"}, {"scope": "window"}])  # fmt: skip
def test_every_form_runs_on_every_joint_set(joint_set, changes):
    points = JOINT_SETS[joint_set]
    take = (points.weights @ walk(23))[0]
    visible = np.random.default_rng(1).random(take.shape[:2]) > 0.4
    for sampler in ("ddim", "ddpm"):
        out = complete_positions(
            take, visible, network(joint_set=points, **changes), steps=4, sampler=sampler, stride=3
        )  # fmt: skip
        assert out.shape == take.shape
        assert np.isfinite(out).all()


# --- windows --------------------------------------------------------------------------------------------------------


def test_interpolation_of_positions_by_hand():
    p = torch.tensor([0.0, torch.nan, torch.nan, 3.0, torch.nan])[None, :, None, None].repeat(1, 1, 2, 3)
    seen = torch.tensor([True, False, False, True, False])[None, :, None].repeat(1, 1, 2)
    seen[:, :, 1] = False
    filled, known = interpolate_positions(p, seen)
    assert filled[0, :, 0, 0].tolist() == [0, 1, 2, 3, 3]
    assert (filled[0, :, 1] == 0).all()
    assert known.tolist() == [[True, False]]


def test_reference_does_not_jump_with_what_is_visible():
    still = torch.from_numpy(walk(1)).expand(1, 10, 22, 3)
    seen = torch.rand((1, 10, 22), generator=generator()) > 0.5
    seen[:, 0] = True
    for kind in ("centroid", "hip"):
        reference = find_reference(*interpolate_positions(still, seen), replace(TINY, reference=kind))
        assert (reference - reference[:, :1]).abs().max() < 1e-6
    seen[:, :, [1, 2]] = False
    base = interpolate_positions(still, seen)
    hip, centroid = (find_reference(*base, replace(TINY, reference=k)) for k in ("hip", "centroid"))
    assert torch.equal(hip, centroid), "hips that are never seen fall back to the centroid"


def oracle(net, truth):
    """A network that knows the answer, in whatever window it is asked."""
    inside = {}

    def condition(*about):
        inside["now"] = PositionsNetwork.condition(net, *about)
        return inside["now"]

    def predict(c, state, step):
        assert c is inside["now"]
        return net.enter(c, truth[: len(c.observed)])

    net.condition, net.predict = condition, predict
    return net


@pytest.mark.parametrize(
    "changes",
    [{}, {"residual": True, "scope": "window"}, {"residual": True, "base": "take"}, {"reference": "hip"}],
)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_network_that_knows_the_answer_gives_it(changes, sampler):
    """One still pose, so that every window has the same truth: normalisation, sampling and averaging must undo."""
    pose = walk(1)[0].astype(np.float64)
    take = np.repeat(pose, 27, axis=0) + np.array([100.0, 0, -50])  # far from the origin
    visible = np.random.default_rng(0).random((27, 22)) > 0.5
    visible[::5] = True
    origin = np.where(visible[..., None], take, 0).sum(axis=(0, 1)) / visible.sum()
    truth = torch.from_numpy((take[:10] - origin).astype(np.float32))[None]
    net = oracle(network(**changes), truth)
    out = complete_positions(
        np.where(visible[..., None], take, np.nan), visible, net, sampler=sampler, steps=8, stride=4
    )
    assert np.abs(out - take).max() < 1e-4
    out = refine_positions(
        take, oracle(network(**changes), truth + torch.tensor(origin - take.mean(axis=(0, 1))).float()), steps=3
    )
    assert np.abs(out - take).max() < 1e-4


def test_a_residual_over_the_take_starts_at_the_interpolation_of_the_take():
    """A joint that no frame of a window shows lies where it lies between the frames around, not in the centroid."""
    take = walk(50)[0]
    visible = np.ones((50, 22), bool)
    visible[10:40, [18, 20]] = False
    changes = {"residual": True, "scope": "window", "diffusion": False}
    straight = interpolate_positions(torch.from_numpy(take)[None], torch.from_numpy(visible)[None])[0][0].numpy()
    answers = {}
    for base in ("window", "take"):
        net = network(**changes, base=base)
        net.predict = lambda condition, *_: torch.zeros_like(condition.observed)
        answers[base] = complete_positions(take, visible, net)
    assert np.abs(answers["take"] - straight).max() < 1e-5
    assert np.abs(answers["window"] - straight).max() > 0.05


def test_visible_joints_keep_their_bits_and_hidden_values_do_not_matter():
    take = walk(31, people=2)
    take[0, 3, 4] = -0.0
    visible = np.random.default_rng(0).random(take.shape[:3]) > 0.3
    net = network()
    a = complete_positions(take, visible, net, steps=3)
    assert a.dtype == take.dtype
    assert np.array_equal(a[visible].view(np.uint32), take[visible].view(np.uint32))
    spoiled = np.where(visible[..., None], take, np.nan).astype(np.float32)
    assert np.array_equal(a, complete_positions(spoiled, visible, net, steps=3))
    assert np.array_equal(a, complete_positions(spoiled, np.ones_like(visible), net, steps=3)), "NaN means hidden"
    assert not np.array_equal(a, complete_positions(take, visible, net, steps=3, seed=1))


def test_people_do_not_influence_each_other():
    take = walk(25, people=3)
    visible = np.random.default_rng(0).random(take.shape[:3]) > 0.3
    net = network()
    first = complete_positions(take, visible, net, steps=2)[0]
    assert np.abs(first - complete_positions(take[:1], visible[:1], net, steps=2)[0]).max() < 1e-5
    assert refine_positions(take.reshape(3, 1, 25, 22, 3), net, steps=2).shape == (3, 1, 25, 22, 3)


@pytest.mark.parametrize("frames", [1, 4, 10, 11, 57])
def test_takes_of_any_length(frames):
    take = walk(frames)[0]
    visible = np.ones((frames, 22), bool)
    visible[:, 18] = False
    assert np.isfinite(complete_positions(take, visible, network(), steps=2)).all()
    assert refine_positions(take, network(), steps=2).shape == take.shape


def test_moving_and_turning_the_axes_moves_the_answer():
    take = walk(22)[0].astype(np.float64)
    visible = np.random.default_rng(0).random((22, 22)) > 0.3
    net = network()
    a = complete_positions(take, visible, net, steps=3)
    shift = np.array([50.0, 3, -20])
    assert np.abs(complete_positions(take + shift, visible, net, steps=3) - shift - a).max() < 1e-4
    z_up = np.stack([take[..., 0], -take[..., 2], take[..., 1]], axis=-1)
    b = complete_positions(z_up, visible, net, steps=3, up="z")
    assert np.abs(np.stack([b[..., 0], b[..., 2], -b[..., 1]], axis=-1) - a).max() < 1e-5


def test_frames_with_nothing_near_them_are_interpolated():
    take = walk(60)[0]
    visible = np.ones((60, 22), bool)
    visible[15:45] = False  # windows inside see nothing at all
    out = complete_positions(take, visible, network(), steps=2, stride=5)
    assert np.isfinite(out).all()
    middle = out[25:36]
    assert np.abs(np.diff(middle, 2, axis=0)).max() < 1e-5


def test_refinement_starts_from_the_data_not_from_noise():
    take = walk(20)[0]
    net = network()
    assert np.array_equal(refine_positions(take, net, seed=0), refine_positions(take, net, seed=5))
    weights = np.zeros((20, 22))
    weights[:, 7] = 1
    read = refine_positions(take, net, weights=weights, ratio=1 / 22)
    assert not np.array_equal(read, refine_positions(take, net))


def test_equation_9_hides_the_worst_share_at_inference():
    confidence = np.ones((2, 12, 22, 3))
    confidence[0, :, 5] = 0
    weights = adaptive_weights(torch.tensor(confidence), torch.zeros(2, 12, 22)).numpy()
    weights[1, 4, 9] = np.inf
    visible = hide_by_weights(weights, 12 / (12 * 22))
    assert not visible[0, :, 5].any()
    assert visible[0].sum() == 12 * 22 - 12
    assert not visible[1, 4, 9]
    assert hide_by_weights(np.full((3, 22), np.inf), 0.0).sum() == 0
    take = walk(12)[0]
    out = complete_positions(take, weights[0], network(), ratio=12 / (12 * 22), steps=2)
    assert np.array_equal(np.delete(out, 5, axis=1), np.delete(take, 5, axis=1))
    assert not np.array_equal(out[:, 5], take[:, 5])


def test_bad_requests_get_a_sentence():
    take, net = walk(20)[0], network()
    visible = np.ones((20, 22), bool)
    visible[3, 3] = False
    for match, call in {
        "leave at least one": lambda: complete_positions(take, ~np.ones_like(visible), net),
        "one value for every joint": lambda: complete_positions(take, visible[:5], net),
        "knows 22 joints and got 14": lambda: complete_positions(take[:, :14], visible[:, :14], net),
        "must have the shape": lambda: complete_positions(take[..., :2], visible, net),
        "complete them before": lambda: refine_positions(np.where(visible[..., None], take, np.nan), net),
        "sampling steps": lambda: complete_positions(take, visible, net, steps=9),
        "ddim or ddpm": lambda: complete_positions(take, visible, net, sampler="euler"),
        "stride": lambda: complete_positions(take, visible, net, stride=11),
        "y or z": lambda: complete_positions(take, visible, net, up="x"),
        "frame rate": lambda: complete_positions(take, visible, net, fps=0),
        "hold NaN": lambda: complete_positions(take, np.full((20, 22), np.nan), net),
        "between 0 and 1": lambda: complete_positions(take, np.ones((20, 22)), net, ratio=1.0),
        "no weights at": lambda: complete_positions(take, visible, "nothing_there"),
    }.items():
        with pytest.raises(MotionError, match=match):
            call()
    with pytest.raises(MotionError, match="no left_hip"):
        MaskedConfig(joint_set=JointSet(("head",), (((15, 1.0),),)), reference="hip")
    with pytest.raises(MotionError, match="choose x0 or noise"):
        MaskedConfig(objective="velocity")
    with pytest.raises(MotionError, match="variant"):
        MaskedConfig(KAAConfig(variant="pose"))


# --- training -------------------------------------------------------------------------------------------------------


def test_augmentation_turns_about_the_vertical_swaps_sides_and_can_be_switched_off(clips):
    batch = clips.sample(10, torch.full((64,), 30.0), generator(), augment=False)
    p = training.joint_positions(batch, SMPL22)
    assert torch.equal(p, training.augment(p, SMPL22, Drill(yaw=False, flip=False), generator()))
    turned = training.augment(p, SMPL22, Drill(flip=False), generator())
    assert torch.allclose(turned[..., 1], p[..., 1], atol=1e-5)
    assert (turned - p).norm(dim=-1).amax(dim=(1, 2)).median() > 0.3

    def bones(x):
        return (x[:, :, 1:] - x[:, :, list(PARENTS[1:])]).norm(dim=-1)

    assert torch.allclose(bones(turned), bones(p), atol=1e-5)
    flipped = training.augment(p, SMPL22, Drill(yaw=False), generator())
    done = (flipped != p).flatten(1).any(dim=1)
    assert 16 < done.sum() < 48
    again = flipped[done][:, :, list(SMPL22.mirror)] * torch.tensor([-1.0, 1, 1])
    assert torch.equal(again, p[done])


def test_noise_has_its_level_and_weights_follow_it(clips):
    batch = clips.sample(10, torch.full((512,), 30.0), generator(), augment=False)
    p = training.joint_positions(batch, SMPL22)
    noise = training.add_jitter(p, 0.05, 0.05, generator()) - p
    assert noise.flatten(1).std(dim=1).median() == pytest.approx(0.05, rel=0.15)
    assert noise.mean().abs() < 1e-3
    weights = training.occlusion_weights(p, p + noise, generator())
    assert weights.shape == p.shape[:3]
    big = noise.norm(dim=-1) > 0.15
    assert weights[big].mean() > 1.5 * weights[~big].mean()
    clean = training.occlusion_weights(p, p, generator())
    hidden = clean > 0.4
    assert 0.02 < hidden.float().mean() < 0.5
    whole = hidden.all(dim=1)
    assert whole.any(dim=1).float().mean() > 0.1, "what is occluded stays so for a while"


@pytest.mark.parametrize("pattern", ["a", "b", "c"])
def test_drills_hide_their_share(clips, pattern):
    batch = clips.sample(10, torch.full((32,), 30.0), generator(), augment=False)
    p = training.joint_positions(batch, SMPL22)
    visible = training.hide(p, p, Drill(pattern, 0.3), generator())
    share = 1 - visible.float().flatten(1).mean(dim=1)
    assert (share - 0.3).abs().max() < 0.03
    some = training.hide(p, p, Drill(pattern, 0.3, unmasked=0.5), generator()).flatten(1).all(dim=1)
    assert 6 < some.sum() < 26


@pytest.mark.parametrize("name", ["positions_pretrain", "positions_completion", "positions_refinement"])
@pytest.mark.parametrize("extra", [[], ["objective=noise"], ["diffusion=false"], ["residual=true"],
                                   ["residual=true", "base=take"], ["joint_set=shelf14", "reference=hip"]])  # fmt: skip
def test_tasks_measure_lose_and_score(clips, name, extra):
    t = task(name, "rounds=1", "steps=8", *extra)
    t.prepare(clips, generator())
    if "reference=hip" not in extra:
        assert 0.05 < float(t.network.scale) < 1
    batch, windows = t.draw(clips, 160, generator())
    terms = t(batch, windows, generator())
    terms["state"].backward()
    grads = {n: p.grad for n, p in t.named_parameters()}
    assert all(g is None or torch.isfinite(g).all() for g in grads.values())
    assert sum(g is not None for g in grads.values()) > 0.9 * len(grads)
    assert 0.05 < terms["state"].item() < 20
    assert np.isfinite(t.score(clips, generator())["position"])


def test_windows_of_takes_are_interpolated_between_frames_outside_them(clips):
    t = task("positions_completion", "residual=true", "base=take", "pattern=limit")
    _, windows = t.draw(clips, 4000, generator())
    assert windows.truth.shape[1] == windows.visible.shape[1] == t.network.config.window
    base, known = windows.base
    never = ~windows.visible.any(dim=1) & known  # of the window, though the take shows them
    assert never.sum() > 20
    off = [(b - windows.truth).norm(dim=-1).mean(dim=1)[never].mean()
           for b in (base, interpolate_positions(windows.observed, windows.visible)[0])]  # fmt: skip
    assert off[0] < 0.5 * off[1]
    assert torch.equal(windows.observed, windows.truth)
    _, shaken = task("positions_completion", "shaken=0.03").draw(clips, 4000, generator())
    assert 0.005 < (shaken.observed - shaken.truth).std() < 0.02
    shown = windows.visible.float().mean(dim=(1, 2))
    assert (shown < 1).float().mean() > 0.2
    assert (shown == 1).float().mean() > 0.05, "what hides joints comes and goes"


def test_completion_loses_over_hidden_joints_and_refinement_over_all(clips):
    """Eq. 8 and Eq. 10: an answer that is wrong on visible joints alone costs nothing in completion."""
    for name, costs in (("positions_completion", False), ("positions_refinement", True)):
        t = task(name, "rounds=1")
        batch, windows = t.draw(clips, 160, generator())
        windows = replace(windows, visible=windows.visible & (torch.rand(windows.visible.shape) > 0.2))

        def wrong_where_visible(condition, state, step, t=t, windows=windows):
            return t.network.enter(condition, windows.truth) + windows.visible[..., None]

        t.network.predict = wrong_where_visible
        assert (float(t(batch, windows, generator())["state"]) > 0.1) == costs


def fit(t, clips, steps, rate):
    t.prepare(clips, generator())
    before = t.score(clips, generator(1))["position"]
    optimizer, draw = torch.optim.Adam(t.parameters(), rate), generator(2)
    for _ in range(steps):
        loss = sum(t(*t.draw(clips, 160, draw), draw).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, t.eval().score(clips, generator(1))["position"]


@pytest.mark.parametrize("name", ["positions_pretrain", "positions_refinement"])
@pytest.mark.parametrize("extra", [[], ["diffusion=false"]])
def test_they_learn(clips, name, extra):
    """Eight windows by heart, at steps and noise that change all the time."""
    t = task(name, *SETS, "ffn=16", "joint_set=shelf14", *extra)
    t.prepare(clips, generator())
    batch, windows = t.draw(clips, 80, generator(3))
    optimizer, losses = torch.optim.Adam(t.parameters(), 5e-3), []
    for i in range(150):
        loss = t(batch, windows, generator(i % 7))["state"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-7:]) < 0.5 * np.mean(losses[:7])


def test_smoothnet_has_its_size_and_learns_to_smooth(clips):
    assert parameters(SmoothNetwork(SMOOTHNETS["smoothnet"])) == pytest.approx(33_000, rel=0.05)
    t = task("smoothnet", size="smoothnet")
    before, after = fit(t, clips, 120, 2e-3)
    assert after < 0.9
    assert after < 0.2 * before
    take = np.asarray(walk(70)[0])
    noisy = take + np.random.default_rng(0).normal(0, 0.05, take.shape).astype(np.float32)
    out = refine_positions(noisy, t.network)
    assert (
        np.linalg.norm(np.diff(out, 2, axis=0), axis=-1).mean()
        < np.linalg.norm(np.diff(noisy, 2, axis=0), axis=-1).mean()
    )


# --- weights and command line ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["positions_completion", "smoothnet"])
def test_weights_survive_the_store_and_load_by_path(tmp_path, kind):
    path = tmp_path / "mine.safetensors"
    if kind == "smoothnet":
        net = SmoothNetwork(SMOOTHNETS["smoothnet"]).eval()
    else:
        net = network(joint_set=SHELF14, reference="hip", objective="noise")
    store.save(net, kind, {}, path)
    loaded = store.load(path, kind, "cpu")
    assert loaded.config == net.config
    assert all(torch.allclose(a, b, atol=2e-3) for a, b in zip(net.parameters(), loaded.parameters(), strict=True))
    if kind == "smoothnet":
        return
    take = (SHELF14.weights @ walk(15))[0]
    visible = np.ones(take.shape[:2], bool)
    visible[:, 6] = False
    assert complete_positions(take, visible, path, device="cpu", steps=2).shape == take.shape
    with pytest.raises(MotionError, match="not a prior for"):
        refine_positions(take, path, device="cpu")
    card = json.loads(path.with_suffix(".json").read_text())
    card["masked"]["joint_set"]["names"].pop()
    path.with_suffix(".json").write_text(json.dumps(card))
    path.touch()
    with pytest.raises(MotionError):
        complete_positions(take, visible, path, device="cpu")


def run(pack_path, folder, name, *extra):
    return cli.main([
        "train", name, "--data", str(pack_path), "--run", str(folder), "--minutes", "0.02", "--threads", "1",
        "--batch-frames", "80", *extra,
    ])  # fmt: skip


def test_stages_follow_one_another_on_the_command_line(pack_path, tmp_path, capsys):
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    sets = ["--set", *SETS, "ffn=16", "joint_set=shelf14"]
    assert (
        run(pack_path, tmp_path / "1", "positions_pretrain", "--size", "completion_tiny", *sets, "--export", str(a))
        == 0
    )
    assert run(pack_path, tmp_path / "2", "positions_refinement", "--init", str(a), "--export", str(b)) == 0
    network = store.load(b, "positions_refinement", "cpu")
    assert network.config.joint_set == SHELF14
    assert len(json.loads(b.with_suffix(".json").read_text())["ledger"]) == 2
    assert float(network.scale) == pytest.approx(float(store.load(a, "positions_pretrain", "cpu").scale), rel=1e-3)
    capsys.readouterr()
    for extra, sentence in (
        (["--size", "huge"], "choose one of completion_lite"),
        (["--size", "completion_tiny", "--set", "wings=2"], "no field wings"),
        (["--size", "completion_tiny", "--set", "joint_set=octopus"], "no joint set octopus"),
        (["--size", "completion_tiny", "--set", "ratio=2"], "ratio cannot be '2'"),
        (["--size", "completion_tiny", "--set", "objective=velocity"], "objective cannot be 'velocity'"),
    ):
        assert run(pack_path, tmp_path / "3", "positions_pretrain", *extra) == 1
        assert sentence in capsys.readouterr().err
