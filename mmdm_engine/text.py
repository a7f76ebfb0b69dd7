"""What is done, in words: label encoders behind one protocol (the paper's ``v`` in Eq. 11).

A label is a short description such as "walk" or "boxing, punch". The default encoder is a table of word vectors that is
trained, stored and shipped with its prior; a label it knows no word of is an error, never a silent guess.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from .contract import MotionError

DIM = 64
"""Components of a word vector."""
MOST_WORDS = 8
"""Words of one label that are read; further ones are left out."""
FEWEST_CLIPS = 2
"""A word that fewer training clips bear teaches nothing that carries over."""
_FILLERS = """
    a an and at for from in into it its of off on one or over the then to under up with human subject self
    left right leftwards rightwards expressive
"""
IGNORED = frozenset(_FILLERS.split())
"""Words without a movement of their own. Left and right are among them because training mirrors the motion."""
_SUFFIXES = ("ing", "es", "s", "ed", "e")


class LabelEncoder(Protocol):
    """Texts in, vectors out. dim: components of a vector."""

    dim: int

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, dim); the empty text is the zero vector.

        Raises `MotionError` for a text that means nothing to the encoder.
        """
        ...


def split_words(text: str) -> list[str]:
    """Lower-case words of a text, joined names taken apart ("QuickWalk"), without those that carry no movement."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return [w for w in re.findall(r"[a-z]{2,}", apart.lower()) if w not in IGNORED]


def stem(word: str) -> str:
    """What the forms of a word have in common: dance, dances and dancing → danc; jog and jogging → jog."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word.removesuffix(suffix)
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e")


def vocabulary(labels: Iterable[str], fewest: int = FEWEST_CLIPS) -> tuple[str, ...]:
    """The words worth a vector, sorted: those of at least ``fewest`` labels in any form, in their shortest form."""
    forms: dict[str, set[str]] = {}
    count: Counter[str] = Counter()
    for label in labels:
        words = set(split_words(label))
        count.update({stem(word) for word in words})
        for word in words:
            forms.setdefault(stem(word), set()).add(word)
    return tuple(sorted(min(forms[s], key=lambda w: (len(w), w)) for s, clips in count.items() if clips >= fewest))


class WordTable(nn.Module):
    """A label is the mean of its known words' vectors, trained with the prior.

    words: the vocabulary. Row 0 of the table belongs to no word and is zero.
    """

    def __init__(self, words: Sequence[str], dim: int = DIM):
        super().__init__()
        self.words = tuple(words)
        self.dim = dim
        self._row = {stem(word): i + 1 for i, word in enumerate(self.words)}
        self.table = nn.Embedding(len(self.words) + 1, dim, padding_idx=0)

    def ids(self, texts: Sequence[str]) -> Tensor:
        """Texts → rows (B, MOST_WORDS) int, padded with 0; unknown words are left out."""
        out = torch.zeros((len(texts), MOST_WORDS), dtype=torch.long)
        for i, text in enumerate(texts):
            known = [self._row[s] for s in map(stem, split_words(text)) if s in self._row]
            rows = list(dict.fromkeys(known))[:MOST_WORDS]
            out[i, : len(rows)] = torch.tensor(rows, dtype=torch.long)
        return out

    def embed(self, ids: Tensor) -> Tensor:
        """Rows (B, W) → (B, dim): the mean over words, zero where there is none."""
        count = (ids > 0).sum(dim=-1, keepdim=True).clamp(min=1)
        return self.table(ids).sum(dim=-2) / count

    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `LabelEncoder`."""
        ids = self.ids(texts)
        for text, row in zip(texts, ids, strict=True):
            if text.strip() and not row.any():
                some = ", ".join(self.words) or "none"
                raise MotionError(f"The label {text!r} holds no word this prior was trained with; it knows {some}.")
        return self.embed(ids.to(self.table.weight.device))
