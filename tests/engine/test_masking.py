import pytest
import torch

from mmdm_engine import MotionError, masking


def test_pattern_a_hides_the_same_share_in_every_pose():
    mask = masking.pattern_a((4, 10, 22), 0.5, torch.Generator().manual_seed(0))
    assert (mask.sum(dim=-1) == 11).all()
    assert (mask[0] != mask[1]).any()


def test_pattern_b_hides_the_share_of_the_window_but_not_of_each_pose():
    mask = masking.pattern_b((4, 10, 22), 0.3, torch.Generator().manual_seed(0))
    assert (mask.flatten(1).sum(dim=1) == 66).all()
    assert len(mask.sum(dim=-1).unique()) > 2


def test_pattern_c_prefers_large_weights():
    weights = torch.ones(1, 10, 22)
    weights[..., 5] = 50
    hits = torch.zeros(22)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        mask = masking.pattern_c(weights, 0.3, generator)
        assert mask.sum() == 66
        hits += mask[0].float().sum(dim=0)
    assert hits[5] > 2 * hits[torch.arange(22) != 5].max()


def test_adaptive_weights_follow_equation_9():
    confidence = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
    weights = masking.adaptive_weights(confidence, torch.tensor([0.1, 0.2]), omega=2.0)
    assert torch.allclose(weights, torch.tensor([2.1, 2 * torch.exp(torch.tensor(-1.5)).item() + 0.2]))


def test_nearest_trusted_counts_frames_per_column():
    observed = torch.tensor([[1, 0], [0, 0], [0, 1], [1, 0]], dtype=torch.bool)
    before, after = masking.nearest_trusted(observed)
    inf = float("inf")
    assert before[:, 0].tolist() == [0, 1, 2, 0]
    assert after[:, 0].tolist() == [0, 2, 1, 0]
    assert before[:, 1].tolist() == [inf, inf, 0, 1]
    assert after[:, 1].tolist() == [2, 1, 0, inf]


def test_gap_and_sparse_keys():
    assert masking.gap(10, 3, 6)[:, 0].tolist() == [False] * 3 + [True] * 3 + [False] * 4
    keys = ~masking.sparse_keys(12, 5)[:, 22]
    assert keys.nonzero()[:, 0].tolist() == [0, 5, 10, 11]
    with pytest.raises(MotionError, match="choose a range inside"):
        masking.gap(10, 5, 11)
