"""The word table: which words of a label are read, and how a label reaches the network."""

import pytest
import torch

from benchmarks import labels
from mmdm_engine import MotionError
from mmdm_engine.model.config import KAAConfig
from mmdm_engine.pack import Pack
from mmdm_engine.priors.network import InbetweenNetwork
from mmdm_engine.priors.solve import encoded
from mmdm_engine.text import WordTable, split_words, stem, vocabulary

TINY = KAAConfig(
    rounds=1, joint_dim=8, pose_dim=16, heads=1, head_dim=8, time_heads=1, time_head_dim=16, ffn=16, time_ffn=16
)


@pytest.mark.parametrize(
    ("forms", "same"),
    [(("jog", "jogs", "jogging"), "jog"), (("dance", "dances", "dancing"), "danc"), (("punch", "punches"), "punch")],
)
def test_forms_of_a_word_have_one_stem(forms, same):
    assert {stem(form) for form in forms} == {same}


def test_words_of_a_label():
    assert split_words("QuickWalk") == ["quick", "walk"]
    assert split_words("Boxing - punch, with the LEFT hand (human subject)") == ["boxing", "punch", "hand"]


def test_a_vocabulary_holds_what_several_clips_say_in_its_shortest_form():
    words = vocabulary(["walk", "walking, wave", "salsa dance", "dances", "flip", "turn left", "left"])
    assert words == ("dance", "walk")


def test_a_table_reads_known_words_in_any_form_and_refuses_the_rest():
    table = WordTable(("dance", "walk"))
    assert table.ids(["Walking and dancing", "hop", ""]).tolist() == [[2, 1, *[0] * 6], [0] * 8, [0] * 8]
    walk, both, none = table.encode(["walks", "walk, dance", "  "])
    assert torch.equal(walk, table.table.weight[2])
    assert torch.allclose(both, table.table.weight[1:].mean(dim=0))
    assert not none.any()
    with pytest.raises(MotionError, match="it knows dance, walk"):
        table.encode(["hop"])


def test_an_untrained_label_changes_nothing_and_a_trained_one_does():
    torch.manual_seed(0)
    network = InbetweenNetwork(TINY, ["dance", "walk"]).eval()
    x = torch.randn(2, 9, 22, InbetweenNetwork.FEATURES + 6)
    rest = (torch.zeros(2, dtype=torch.long), torch.zeros(2, 9), torch.full((2,), 1 / 30))
    torch.nn.init.normal_(network.encoder.read.weight)
    torch.nn.init.normal_(network.encoder.read_pose.weight)

    def answer(label):
        vector = None if label is None else network.text.encode([label] * 2)
        return network.encoder(x[..., :-6], x[..., -6:], *rest, vector)

    assert torch.equal(answer("walk"), answer(None))
    torch.nn.init.normal_(network.encoder.kaa.pose_codes.label.weight)
    assert torch.equal(answer(""), answer(None)), "the empty label says nothing"
    assert not torch.allclose(answer("walk"), answer("dance"), atol=1e-3)


def test_a_prior_without_labels_says_so():
    with pytest.raises(MotionError, match="without labels"):
        encoded(InbetweenNetwork(TINY), "walk")
    assert encoded(InbetweenNetwork(TINY), " ") is None


def test_the_shipped_prior_hears_what_it_is_told(data):
    """On people it never saw: labels of other movements cost something, and the true one does not."""
    row = labels.measure(Pack.load(data("cmu/val.npz")), "inbetween", 45, 160, [1.0])[0]
    assert row["other_minus_own_mm"][1] > 0, "95 % bound of what other labels cost"
    assert row["mm_own_label"] < row["mm_unsaid"] + 0.5
