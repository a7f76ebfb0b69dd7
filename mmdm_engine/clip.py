"""Labels by CLIP's text tower (Radford et al. 2021), the encoder the paper uses: ViT-B/32, 512 components.

An optional extra: it needs the package transformers and a folder with the published weights. Neither is shipped, and
nothing is ever downloaded here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .contract import MotionError

SOURCE = "openai/clip-vit-base-patch32"
"""Where the published model is found, by its name at Hugging Face."""
_FILES = {
    "the description config.json": ("config.json",),
    "the weights model.safetensors": ("model.safetensors", "pytorch_model.bin"),
    "the tokenizer": ("tokenizer.json", "vocab.json"),
}


class ClipLabels:
    """A `text.LabelEncoder`: frozen, with every text's vector computed once and kept.

    folder: what ``config.json``, weights and tokenizer lie in, of the whole CLIP or its text tower alone. device: where
    the tower runs and the vectors lie. dim: components of a vector, as the folder says. Raises `MotionError`.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu"):
        folder = Path(folder)
        _require_files(folder)
        self._tokenizer, self._tower = _load(folder)
        self._tower.to(device).eval().requires_grad_(False)
        self.dim: int = self._tower.config.projection_dim
        self._device = torch.device(device)
        self._most = int(self._tower.config.max_position_embeddings)
        self._known: dict[str, Tensor] = {"": torch.zeros(self.dim, device=self._device)}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts → (B, dim), without a gradient; the empty text is the zero vector. Long texts are cut."""
        texts = [text.strip() for text in texts]
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            tokens = self._tokenizer(new, padding=True, truncation=True, max_length=self._most, return_tensors="pt")
            with torch.no_grad():
                vectors = self._tower(**tokens.to(self._device)).text_embeds
            self._known |= dict(zip(new, vectors, strict=True))
        if not texts:
            return torch.zeros((0, self.dim), device=self._device)
        return torch.stack([self._known[text] for text in texts])


def _require_files(folder: Path) -> None:
    if not folder.is_dir():
        raise MotionError(f"There is no folder {folder}; give the one that {SOURCE} was downloaded to.")
    for what, names in _FILES.items():
        if not any((folder / name).is_file() for name in names):
            raise MotionError(f"{folder} lacks {what}; download all of {SOURCE} to it.")


def _load(folder: Path) -> tuple[Any, Any]:
    """(tokenizer, text tower) from local files only."""
    try:
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer
    except ImportError as error:
        raise MotionError("CLIP labels need the package transformers; run pip install mmdm-engine[clip].") from error
    try:
        with _quiet():
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            loaded: Any = CLIPTextModelWithProjection.from_pretrained(
                folder, local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # what damaged files do to the library has no common parent
        reason = " ".join(str(error).split())[:120]
        raise MotionError(f"{folder} holds no usable CLIP ({reason}); download {SOURCE} to it again.") from error
    tower, report = loaded
    if report["missing_keys"]:  # the library would fill them with random numbers
        lacking = sorted(report["missing_keys"])[0]
        raise MotionError(f"The weights in {folder} lack {lacking}; they are not CLIP's, download {SOURCE} again.")
    return tokenizer, tower


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's remarks on the image tower, which is rightly left out."""
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
