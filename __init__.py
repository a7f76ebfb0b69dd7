"""MMDM for Blender: fill gaps and take the shake out of character animation."""


def register() -> None:
    """Blender's hook, when the extension is enabled."""
    from . import mmdm_addon

    mmdm_addon.register()


def unregister() -> None:
    """Blender's hook, when the extension is disabled."""
    from . import mmdm_addon

    mmdm_addon.unregister()
