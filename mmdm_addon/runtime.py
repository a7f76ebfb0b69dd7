"""Which Python runs the engine, and the one worker process of this Blender.

Looked for in this order: the environment variable ``MMDM_PYTHON``, the preference, the environment that the extension
manages, Blender's own Python if it has torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from .engine_client import EngineClient
from .engine_link import PREFERENCES_ID, ROOT_PACKAGE, MotionError

ENVIRONMENT_VARIABLE = "MMDM_PYTHON"


@dataclass(frozen=True)
class Runtime:
    """A Python for the worker: the program, who named it, and module folders beyond its own."""

    python: str
    source: str
    module_folders: tuple[str, ...] = field(default=())


def preferences() -> Any:
    """This extension's preferences, or None where it runs from a checkout without being enabled."""
    addon = bpy.context.preferences.addons.get(PREFERENCES_ID)
    return addon.preferences if addon else None


def managed_folder() -> Path:
    """Where the managed environment lives; nothing is created."""
    if ROOT_PACKAGE:
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path="runtime"))
    return Path(bpy.utils.user_resource("DATAFILES", path="mmdm/runtime"))


def managed_python() -> Path:
    """The program of the managed environment, whether it exists or not."""
    return managed_folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def find() -> Runtime:
    """The Python to use. Raises `MotionError` that says what to do when there is none."""
    named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if named:
        return Runtime(_program(named, f"The environment variable {ENVIRONMENT_VARIABLE}"), "environment variable")
    chosen = getattr(preferences(), "python", "").strip()
    if chosen:
        return Runtime(_program(bpy.path.abspath(chosen), "The preference Python"), "preference")
    if managed_python().is_file():
        return Runtime(str(managed_python()), "managed environment")
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin and _is_python(sys.executable):
        # scripts in Blender may see folders that its bare interpreter does not
        return Runtime(sys.executable, "Blender's Python", (str(Path(torch.origin).parent.parent),))
    raise MotionError(
        "No Python with torch was found for the engine; install torch, scipy, safetensors and array-api-compat into a "
        "Python 3.11 or newer and name that Python in the preferences of this extension."
    )


def _program(path: str, who: str) -> str:
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise MotionError(f"{who} names {path}, which is no file; enter the path of a Python program.")
    if not os.access(path, os.X_OK):
        raise MotionError(f"{who} names {path}, which is not a program; enter the path of a Python program.")
    return path


def _is_python(path: str) -> bool:
    return bool(path) and "python" in Path(path).name.lower() and os.path.isfile(path)


def worker_command(runtime: Runtime) -> list[str]:
    """Program and arguments of the worker."""
    return [runtime.python, "-m", "mmdm_engine.worker"]


_client: EngineClient | None = None


def client() -> EngineClient:
    """The worker of this Blender, for the Python in force now. Raises `MotionError` where none is found."""
    global _client
    runtime = find()
    command = worker_command(runtime)
    if _client is None or _client.command != tuple(command):
        shut_down()
        environment = {}
        if runtime.module_folders:
            from .engine_link import ENGINE_HOME

            environment["PYTHONPATH"] = os.pathsep.join([str(ENGINE_HOME), *runtime.module_folders])
        _client = EngineClient(command, environment)
    return _client


def current() -> EngineClient | None:
    """The worker if one was ever started."""
    return _client


def status() -> str:
    """One line for the panel. Starts nothing."""
    try:
        runtime = find()
    except MotionError as error:
        return str(error)
    if _client is None:
        return f"Ready: {runtime.source}; the engine starts when first used"
    if _client.failure:
        return _client.failure
    if not _client.running:
        return f"Ready: {runtime.source}"
    if _client.hello is None:
        return f"Starting: {runtime.source}"
    hello = _client.hello
    return f"Running: Python {hello['python']}, torch {hello['torch']}, {hello['devices'][0]}"


def shut_down() -> None:
    """End the worker process."""
    global _client
    if _client is not None:
        _client.close()
        _client = None
