"""Fixtures that every test folder shares. Needs nothing heavier than NumPy at import."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

DATA = Path(os.environ.get("MMDM_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Path of a data file by its path relative to the data folder; skips the test where it is absent."""

    def find(relative: str) -> Path:
        path = DATA / relative
        if not path.exists():
            pytest.skip(f"needs {relative}, which is not in {DATA}; set MMDM_DATA to the folder that holds it")
        return path

    return find


@pytest.fixture(scope="session")
def pack_clip(data: Callable[[str], Path]) -> Callable[..., object]:
    """Loader of decoded pack clips: ``pack_clip("02_01")`` or ``pack_clip(name, "bandai/dataset2_sample.npz")``."""
    from mmdm_engine.pack import Pack

    opened: dict[str, Pack] = {}

    def load(clip: str | int, pack: str = "cmu/val.npz") -> object:
        if pack not in opened:
            opened[pack] = Pack.load(data(pack))
        return opened[pack][clip]

    return load


@pytest.fixture(scope="session")
def val_motion(pack_clip: Callable[..., object]) -> object:
    """A small real motion: CMU subject 02 walks, 172 frames at 60 fps, 22 joints."""
    return pack_clip("02_01")
