"""Clean-up of motion files without a window: what `mmdm_addon.batch` and ``blender --command mmdm`` run.

`run.main` is the whole of it; docs/batch.md describes it from outside.
"""
