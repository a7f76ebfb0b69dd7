"""Helpers of the add-on tests that need a worker process."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STANDIN = ROOT / "tests" / "standin_worker.py"


def worker_python() -> str:
    """A Python that can run the engine: ``MMDM_PYTHON``, else the one running the tests; skips without."""
    if named := os.environ.get("MMDM_PYTHON"):
        return named
    if importlib.util.find_spec("torch"):
        return sys.executable
    pytest.skip("no Python with torch for the worker; set MMDM_PYTHON to one")


def standin_command() -> list[str]:
    """The command of the stand-in worker (tests/standin_worker.py)."""
    return [worker_python(), str(STANDIN)]
