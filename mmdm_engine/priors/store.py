"""Shipped and trained weights: one ``.safetensors`` and one ``.json`` model card per prior."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..contract import MotionError
from ..model.config import kaa_from_dict, to_dict
from .generative import GenerativeNetwork
from .masked import PositionsNetwork, SmoothNetwork
from .network import NETWORKS, InbetweenNetwork, Network
from .passage import PassageNetwork

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
FORMAT = 1


def shipped() -> list[str]:
    """Names of the priors that come with the engine."""
    return sorted(p.stem for p in WEIGHTS.glob("*.safetensors") if p.with_suffix(".json").exists())


def resolve(prior: str | Path) -> Path:
    """A shipped prior's name or a path → its ``.safetensors`` file."""
    path = Path(prior)
    if path.suffix != ".safetensors":
        path = WEIGHTS / f"{prior}.safetensors"
    if not path.is_file():
        known = ", ".join(shipped()) or "none"
        raise MotionError(f"There are no weights at {path}; choose a .safetensors file or a shipped prior ({known}).")
    return path


def _measured(name: str) -> bool:
    """Whether a tensor holds values measured on data, which are kept whole, and not trained ones, which are halved."""
    return name.startswith("scale.") or name.endswith((".table", "mean", "deviation"))


def save(network: Network, kind: str, card: dict[str, Any], path: Path) -> None:
    """Write weights (float16, tables float32) and the card beside them; each file appears whole or not at all."""
    tensors = {
        name: (value if _measured(name) else value.half()).detach().contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    card = {"format": FORMAT, "kind": kind, **network.settings(), **card}
    if not isinstance(network, SmoothNetwork | PassageNetwork):
        card = {"kaa": to_dict(network.config.kaa), **card}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path.with_suffix(".json"))


def read_card(path: Path) -> dict[str, Any]:
    """The model card beside a weights file."""
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MotionError(
            f"The model card {path.with_suffix('.json')} is missing; restore it beside the weights."
        ) from None
    except (OSError, ValueError) as error:
        raise MotionError(
            f"The model card of {path.name} cannot be read ({error}); install the weights again."
        ) from None
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("kind") not in NETWORKS:
        raise MotionError(f"{path.name} was made for another version of this engine; install matching weights.")
    return card


def build(kind: str, about: dict[str, Any]) -> Network:
    """An untrained network of a kind from what a card or a run's record says of it: ``kaa`` and its settings."""
    network = NETWORKS[kind]
    if issubclass(network, PositionsNetwork | SmoothNetwork | GenerativeNetwork | PassageNetwork):
        return network.from_settings(about)
    known = ("words", "objective", "base") if network is InbetweenNetwork else ()
    settings = {name: about[name] for name in known if name in about}
    if about.get("passage"):
        settings["passages"] = about["passage"]
    return network(kaa_from_dict(about["kaa"]), **settings)


@lru_cache(maxsize=8)
def _load(path: Path, changed: int, device: str) -> tuple[str, Network]:
    card = read_card(path)
    try:
        network = build(card["kind"], card)
        tensors = {name: value.float() for name, value in load_file(path).items()}
        network.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MotionError(f"The weights {path.name} are damaged ({reason}); install them again.") from None
    if not all(bool(torch.isfinite(v).all()) for v in tensors.values()):
        raise MotionError(f"The weights {path.name} hold NaN or infinite numbers; install them again.")
    return card["kind"], network.to(device).eval().requires_grad_(False)


def load_any(prior: str | Path, device: str = "auto") -> tuple[str, Network]:
    """A prior's kind and its ready network, kept in memory for the next call."""
    path = resolve(prior)
    return _load(path, path.stat().st_mtime_ns, choose_device(device))


def load(prior: str | Path, kind: str, device: str = "auto") -> Network:
    """A ready network, kept in memory for the next call. device: "auto", "cpu", "cuda", "mps"."""
    found, network = load_any(prior, device)
    if found != kind:
        raise MotionError(f"{Path(prior).name} is not a prior for {kind}; choose one that is.")
    return network


def choose_device(device: str = "auto") -> str:
    """The fastest device there is, or the one asked for."""
    if device != "auto":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError):
            raise MotionError(f"The device {device} is not available here; choose auto or cpu.") from None
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
