"""Packs → windows → corruption → loss → Lightning Fabric loop. Everything after the pack is batched on the device."""

NAMES = ("inbetween", "completion", "refinement")
"""The tasks that ``train`` knows; `tasks.TASKS` holds their classes."""
