"""CLIP labels on a tiny CLIP of the same classes, initialised at random and saved as the published one is."""

from __future__ import annotations

import json
import socket

import pytest

from mmdm_engine.contract import MotionError

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("transformers", reason="needs the optional extra clip (pip install mmdm-engine[clip])")

from mmdm_engine.clip import ClipLabels  # noqa: E402

DIM = 12
WORDS = ("walk", "walks", "jump", "run")


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """A byte-pair vocabulary of single letters and of WORDS, and the merges that make them."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(c + "</w>" for c in letters)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            parts = [parts[0] + parts[1], *parts[2:]]
            if pair not in merges:
                merges.append(pair)
            if parts[0] not in tokens:
                tokens.append(parts[0])
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As a download of the whole model: both towers in one file."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    path = tmp_path_factory.mktemp("clip")
    tokens, merges = vocabulary()
    (path / "vocab.json").write_text(json.dumps(tokens))
    (path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(
        **sizes, vocab_size=len(tokens), max_position_embeddings=20, projection_dim=DIM,
        bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1, pad_token_id=len(tokens) - 1,
    )  # fmt: skip
    vision = CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=DIM)
    torch.manual_seed(0)
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=DIM)
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def labels(folder):
    return ClipLabels(folder)


@pytest.fixture
def copy(folder, tmp_path):
    """The folder's files in a folder of the test's own."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_vectors_are_the_towers_projected_features(folder, labels):
    from transformers import CLIPModel, CLIPTokenizer

    texts = ["walk", "a person jumps", "run"]
    whole, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    assert labels.dim == DIM
    vectors = labels.encode(texts)
    assert vectors.shape == (3, DIM)
    for text, vector in zip(texts, vectors, strict=True):  # one at a time, without padding
        tokens = tokenizer([text], return_tensors="pt")
        hidden = whole.text_model(**tokens).pooler_output
        torch.testing.assert_close(vector, whole.text_projection(hidden)[0].detach(), rtol=1e-4, atol=1e-5)
    assert (vectors[0] - vectors[2]).norm() > 1e-3


def test_it_is_a_label_encoder_that_keeps_what_it_knows(labels, monkeypatch):
    from mmdm_engine.text import LabelEncoder

    encoder: LabelEncoder = labels
    first = encoder.encode(["walk", "", "  walk ", "jump"])
    torch.testing.assert_close(first[0], first[2], rtol=0, atol=0)
    assert not first[1].any()
    assert not first.requires_grad
    assert not any(p.requires_grad for p in labels._tower.parameters())
    monkeypatch.setattr(labels, "_tower", None)  # known texts need no tower
    torch.testing.assert_close(encoder.encode(["jump", "walk"]), first[[3, 0]], rtol=0, atol=0)
    assert encoder.encode([]).shape == (0, DIM)


def test_vectors_can_be_learned_from(labels):
    """No inference tensors: a layer on top of them must get its gradient."""
    layer = torch.nn.Linear(DIM, 2)
    layer(labels.encode(["walk", "run"])).sum().backward()
    assert layer.weight.grad.abs().sum() > 0


def test_long_texts_are_cut(labels):
    long = " ".join(["walk"] * 200)
    torch.testing.assert_close(labels.encode([long]), labels.encode([long + " run"]))


def test_the_text_tower_alone_will_do_and_the_network_is_never_asked(copy, labels, monkeypatch):
    from transformers import CLIPTextModelWithProjection

    tower = CLIPTextModelWithProjection.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    tower.save_pretrained(copy)

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.testing.assert_close(ClipLabels(copy).encode(["walk"]), labels.encode(["walk"]))


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (("config.json",), "lacks the description config.json"), (("model.safetensors",), "lacks the weights"),
        (("vocab.json", "tokenizer.json"), "lacks the tokenizer"),
    ],
)  # fmt: skip
def test_missing_files_are_said(copy, missing, sentence):
    for name in missing:
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(MotionError, match=sentence) as error:
        ClipLabels(copy)
    assert "download" in str(error.value)


def test_damaged_and_foreign_weights_are_said(copy, tmp_path):
    with pytest.raises(MotionError, match="There is no folder"):
        ClipLabels(tmp_path / "absent")
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MotionError, match="holds no usable CLIP") as error:
        ClipLabels(copy)
    assert "\n" not in str(error.value)
    from safetensors.torch import save_file

    save_file({"table.weight": torch.zeros(3, 4)}, weights, metadata={"format": "pt"})
    with pytest.raises(MotionError, match="they are not CLIP"):
        ClipLabels(copy)


def test_without_the_package_it_says_what_to_install(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MotionError, match=r"pip install mmdm-engine\[clip\]"):
        ClipLabels(folder)
