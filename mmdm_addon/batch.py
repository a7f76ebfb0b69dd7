"""Clean up folders of motion files without a window.

    blender -b --python mmdm_addon/batch.py -- takes --out cleaned
    blender --command mmdm takes --out cleaned
    python -m mmdm_addon.batch takes --out cleaned          (a Python with the bpy package)

Run as a script this file has no package. It then takes the extension that is enabled in this Blender, else the add-on
that it is a part of. ``--help`` lists the options; docs/batch.md explains them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def _enabled() -> str:
    """The add-on's package in the extension that is enabled here; empty without one."""
    import bpy

    enabled = [addon.module for addon in bpy.context.preferences.addons]
    found = (name for name in enabled if name.startswith("bl_ext.") and name.endswith(".mmdm"))
    return next((f"{name}.mmdm_addon" for name in found), "")


def _beside() -> str:
    """The package that this file is a part of, imported by its place."""
    folder = Path(__file__).resolve().parent
    if folder.name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            folder.name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[folder.name] = module
        spec.loader.exec_module(module)
    return folder.name


def _run() -> ModuleType:
    return importlib.import_module(f"{__package__ or _enabled() or _beside()}.batching.run")


def _arguments() -> list[str]:
    """What follows ``--`` in Blender's command line; all of it where Python was called."""
    if "--" in sys.argv:
        return sys.argv[sys.argv.index("--") + 1 :]
    return sys.argv[1:] if sys.argv[0].endswith(".py") else []


def main() -> int:
    """Run the batch; the exit status."""
    program = "python -m mmdm_addon.batch" if __package__ else f"blender -b --python {Path(__file__).name} --"
    return _run().main(_arguments(), program)


if __name__ == "__main__":
    import bpy  # noqa: F401  (before anything else, where it is a module)

    status = main()
    _run().runtime.shut_down()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Blender's own way out ignores the status, and crashes in some versions after a glTF export
