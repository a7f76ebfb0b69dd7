"""Which Python runs the engine, and the one worker process of this Blender.

Looked for in this order: the environment variable ``MMDM_PYTHON``, the preference, the environment that the extension
manages, Blender's own Python if it has torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from . import runtime_install, runtime_locks
from .engine_client import EngineClient
from .engine_link import PREFERENCES_ID, ROOT_PACKAGE, MotionError
from .runtime_install import Installation

ENVIRONMENT_VARIABLE = "MMDM_PYTHON"
_KEEP = 1.0
"""Seconds for which panels, drawn many times a second, take the last answer to whether there is a Python."""


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


def managed() -> dict[str, Any] | None:
    """What the managed environment was made of; None where there is none that is complete."""
    return runtime_install.read_marker(managed_folder())


def find() -> Runtime:
    """The Python to use. Raises `MotionError` that says what to do when there is none."""
    named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if named:
        return Runtime(_program(named, f"The environment variable {ENVIRONMENT_VARIABLE}"), "environment variable")
    chosen = getattr(preferences(), "python", "").strip()
    if chosen:
        return Runtime(_program(bpy.path.abspath(chosen), "The preference Python"), "preference")
    if managed():
        return Runtime(str(runtime_install.program(managed_folder())), "managed environment")
    torch = importlib.util.find_spec("torch")
    if torch is not None and torch.origin and _is_python(sys.executable):
        # scripts in Blender may see folders that its bare interpreter does not
        return Runtime(sys.executable, "Blender's Python", (str(Path(torch.origin).parent.parent),))
    raise MotionError(
        "The engine is not installed yet; press Install Engine, or name a Python 3.11 or newer with torch in the "
        "preferences of this extension."
    )


_seen: tuple[object, float, Runtime | None, str] = (None, 0.0, None, "")


def _glance() -> tuple[Runtime | None, str]:
    """What `find` gives or says, from memory within `_KEEP` seconds."""
    global _seen
    key = (os.environ.get(ENVIRONMENT_VARIABLE), getattr(preferences(), "python", ""))
    if key != _seen[0] or time.monotonic() >= _seen[1]:
        try:
            found, problem = find(), ""
        except MotionError as error:
            found, problem = None, str(error)
        _seen = (key, time.monotonic() + _KEEP, found, problem)
    return _seen[2], _seen[3]


def missing() -> str:
    """Why no engine can be started, for panels; empty when one can."""
    return _glance()[1]


def forget() -> None:
    """Look anew for a Python at the next question, and start the engine with it at the next request."""
    global _seen
    _seen = (None, 0.0, None, "")
    shut_down()


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
    runtime, problem = _glance()
    if runtime is None:
        return problem
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


_installation: Installation | None = None


def installation() -> Installation | None:
    """The managed environment that is being made by this Blender."""
    return _installation


def offline(package_index: str) -> str:
    """Why nothing may be downloaded, in words for a greyed-out button; empty when it may, or need not be."""
    if runtime_install.is_folder(package_index) or bpy.app.online_access:
        return ""
    if bpy.app.online_access_override:
        return "Blender was started with --offline-mode; start it without that, or name a folder of packages"
    return "Online access is off; allow it in Preferences > System > Network, or name a folder of packages"


def begin_installation(build: str, package_index: str) -> Installation:
    """Start making the managed environment. Raises `MotionError` where it cannot even start.

    build: a name in `runtime_locks.BUILDS`. package_index: empty for the usual places.
    """
    global _installation
    if problem := offline(package_index):
        raise MotionError(problem + ".")
    if runtime_install.is_folder(package_index):
        package_index = bpy.path.abspath(os.path.expanduser(package_index))
        if not os.path.isdir(package_index):
            raise MotionError(
                f"The package index {package_index} is no folder; enter an address or an existing folder."
            )
    lock = runtime_locks.find(build)
    begun = Installation(managed_folder(), lock, runtime_install.blender_python(), package_index)
    begun.start()
    _installation = begun
    return begun


def end_installation() -> str:
    """Take over what has ended; the sentence for the user. Raises `MotionError` where there is nothing to take over."""
    global _installation
    ended, _installation = _installation, None
    assert ended is not None
    if ended.built:
        forget()  # what runs is about to be replaced
    ended.finish()
    forget()
    about = ended.about
    device = about["device"]
    words = f"The engine is installed: torch {about['versions']['torch']}, {device}."
    if about["build"] == "cuda" and device == "cpu":
        words += " torch finds no CUDA device, so the processor is used."
    return words


def stop_installation() -> None:
    """Cancel what is being made, and wait until it is gone."""
    global _installation
    if _installation is not None:
        _installation.cancel()
        _installation.wait()
        _installation = None


def remove_managed() -> None:
    """Delete the managed environment. Raises `MotionError` where it is in use."""
    forget()
    runtime_install.remove(managed_folder())
    forget()


def installation_log(lines: int) -> list[str]:
    """The last lines that the last installation wrote; empty where there was none."""
    try:
        return runtime_install.log_path(managed_folder()).read_text("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []
