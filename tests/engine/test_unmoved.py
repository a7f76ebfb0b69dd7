"""What a take never moves stays unmoved in what is made up; what merely looks alike twice does not count."""

import made_up
import numpy as np
import pytest

from mmdm_engine import complete, fill_gap
from mmdm_engine import rotations as rot
from mmdm_engine.priors.unmoved import bendable, left_alone, unmoved

FRAMES = 60
TOES = [10, 11]


def take(seed=0):
    """Somebody who sways, whose toes have no keys and who walks on the spot."""
    motion = made_up.swaying(np.random.default_rng(seed), FRAMES, fps=30.0, rates=(0.4, 1.1))
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[:, TOES] = rot.exp(np.array([0.3, 0.0, 0.1], np.float32))
    root[:, [0, 2]] = 0.25, -0.5
    return motion.with_frames(rotations, root)


def gap(start=20, stop=40):
    hidden = np.zeros((FRAMES, 23), bool)
    hidden[start:stop] = True
    return hidden


def test_toes_without_keys_and_a_root_on_the_spot_are_found():
    joints, axes = unmoved(take(), gap())
    assert np.flatnonzero(joints).tolist() == TOES
    assert axes.tolist() == [True, False, True]


def test_what_lies_in_the_gap_does_not_count():
    motion = take()
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[25:30], root[25:30] = np.nan, np.nan
    joints, axes = unmoved(motion.with_frames(rotations, root), gap())
    assert np.flatnonzero(joints).tolist() == TOES
    assert axes.tolist() == [True, False, True]


@pytest.mark.parametrize("hold", [1, 10])
@pytest.mark.parametrize("carried", [0.0, 1.5])
def test_a_pose_and_its_copy_say_nothing_about_what_moves(hold, carried):
    """Not even where the copy stands elsewhere and is turned, as in a cycle that is laid out anew."""
    motion = take()
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[:hold], root[:hold] = rotations[0], root[0]
    rotations[-hold:], root[-hold:] = rotations[0], root[0] + np.array([0, 0, carried], np.float32)
    if carried:
        rotations[-hold:, 0] = rot.multiply(rot.about_y(np.float32(0.4)), rotations[0, 0])
    copied = motion.with_frames(rotations, root)
    joints, axes = unmoved(copied, gap(hold, FRAMES - hold))
    assert not joints.any()
    assert not axes.any()
    filled = fill_gap(copied, hold, FRAMES - hold)[0]
    assert rot.angle(filled.rotations[hold:-hold, 16], rotations[0, 16]).max() > 1e-3


def test_a_limb_that_is_seen_for_a_moment_may_move():
    motion = take()
    rotations = motion.rotations.copy()
    rotations[1, [16, 18]] = rotations[0, [16, 18]]
    hidden = np.zeros((FRAMES, 23), bool)
    hidden[2:, [16, 18]] = True
    joints, _ = unmoved(motion.with_frames(rotations, motion.root), hidden)
    assert np.flatnonzero(joints).tolist() == TOES


def test_the_foot_lock_bends_no_leg_that_never_moves():
    motion = take()
    rotations = motion.rotations.copy()
    rotations[:, [4, 7]] = rot.exp(np.array([0.2, 0.0, 0.0], np.float32))
    still = motion.with_frames(rotations, motion.root)
    assert bendable(still, gap()).tolist() == [False, False, True, True]
    filled = fill_gap(still, 20, 40)[0]
    assert rot.angle(filled.rotations[:, [4, 7]], rotations[:, [4, 7]]).max() < 1e-5


def test_a_column_that_is_seen_once_may_move():
    hidden = gap()
    hidden[1:, TOES[0]] = True
    joints, _ = unmoved(take(), hidden)
    assert np.flatnonzero(joints).tolist() == TOES[1:]


def test_others_keep_what_was_made_up():
    motion = take()
    random = np.random.default_rng(1)
    made = rot.normalize(motion.rotations.astype(np.float64) + 0.1 * random.normal(size=motion.rotations.shape))
    root = motion.root + 0.1
    rotations, moved = left_alone(motion, gap(), made, root)
    others = [j for j in range(22) if j not in TOES]
    assert np.array_equal(rotations[:, others], made[:, others])
    assert np.array_equal(moved[:, 1], root[:, 1])
    assert rot.angle(rotations[:, TOES], motion.rotations[:, TOES].astype(np.float64)).max() < 1e-6
    assert np.abs(moved[:, [0, 2]] - motion.root[:, [0, 2]]).max() < 1e-6


@pytest.mark.parametrize("steps", [1, 2])
def test_fill_gap_does_not_bring_toes_to_life(steps):
    motion = take()
    filled = fill_gap(motion, 20, 40, steps=steps)[0]
    assert rot.angle(filled.rotations[:, TOES], motion.rotations[:, TOES]).max() < 1e-5
    assert np.abs(filled.root[:, [0, 2]] - motion.root[:, [0, 2]]).max() < 1e-6
    assert rot.angle(filled.rotations[20:40, 16], motion.rotations[20:40, 16]).max() > 1e-4


def test_complete_does_not_bring_toes_to_life():
    motion, mask = take(), np.zeros((FRAMES, 22), bool)
    mask[20:40, [1, 4, 7, 10]] = True
    whole = complete(motion, mask)
    assert rot.angle(whole.rotations[:, 10], motion.rotations[:, 10]).max() < 1e-5
