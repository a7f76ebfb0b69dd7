"""The one place where the add-on finds the NumPy-only part of the engine.

Installed, this package is ``bl_ext.<repository>.<id>.mmdm_addon`` and the engine its sibling
``bl_ext.<repository>.<id>.mmdm_engine``; from a checkout both are top-level packages. Other modules of the add-on write
``from ..engine_link import Motion, rotations`` and never name the engine themselves. Nothing here imports torch: that
lives in the worker process.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

ROOT_PACKAGE: str = (__package__ or "mmdm_addon").rpartition(".")[0]
"""The extension's own package, which Blender keys preferences by; empty in a checkout."""

PREFERENCES_ID: str = ROOT_PACKAGE or "mmdm_addon"

ENGINE_HOME: Path = Path(__file__).resolve().parent.parent
"""The folder that holds ``mmdm_engine``: what the worker needs on its module path."""


def _load(name: str) -> ModuleType:
    """``mmdm_engine.<name>`` under whatever package it has here."""
    package = f"{ROOT_PACKAGE}.mmdm_engine" if ROOT_PACKAGE else "mmdm_engine"
    if not ROOT_PACKAGE and package not in sys.modules and importlib.util.find_spec(package) is None:
        _load_beside(package)
    return importlib.import_module(f"{package}.{name}")


def _load_beside(package: str) -> None:
    """Import the engine by file location: the add-on was put on the path without its sibling."""
    folder = ENGINE_HOME / "mmdm_engine"
    spec = importlib.util.spec_from_file_location(
        package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        raise ImportError(f"The folder mmdm_engine is missing in {ENGINE_HOME}; install the add-on again.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)


if TYPE_CHECKING:
    from mmdm_engine import bvh, exchange, kinematics, pack, retarget, rotations
    from mmdm_engine.capture import files as captures
    from mmdm_engine.capture.cameras import Camera
    from mmdm_engine.contract import chains, protocol, rest, skeleton
else:
    chains = _load("contract.chains")
    skeleton = _load("contract.skeleton")
    rest = _load("contract.rest")
    protocol = _load("contract.protocol")
    rotations = _load("rotations")
    kinematics = _load("kinematics")
    pack = _load("pack")
    exchange = _load("exchange")
    bvh = _load("bvh")
    retarget = _load("retarget")
    captures = _load("capture.files")
    Camera = _load("capture.cameras").Camera

if TYPE_CHECKING:
    from mmdm_engine.contract import Motion, MotionError, Skeleton
    from mmdm_engine.contract.skeleton import CANONICAL_DIRECTIONS, INDEX, JOINTS, MAIN_CHILD, MIRROR, PARENTS
else:
    _contract = _load("contract")
    Motion, MotionError, Skeleton = _contract.Motion, _contract.MotionError, _contract.Skeleton
    CANONICAL_DIRECTIONS, INDEX, JOINTS = skeleton.CANONICAL_DIRECTIONS, skeleton.INDEX, skeleton.JOINTS
    MAIN_CHILD, MIRROR, PARENTS = skeleton.MAIN_CHILD, skeleton.MIRROR, skeleton.PARENTS

__all__ = [
    "CANONICAL_DIRECTIONS",
    "ENGINE_HOME",
    "INDEX",
    "JOINTS",
    "MAIN_CHILD",
    "MIRROR",
    "PARENTS",
    "PREFERENCES_ID",
    "ROOT_PACKAGE",
    "Camera",
    "Motion",
    "MotionError",
    "Skeleton",
    "bvh",
    "captures",
    "chains",
    "exchange",
    "kinematics",
    "pack",
    "protocol",
    "rest",
    "retarget",
    "rotations",
    "skeleton",
]
