"""Packs → windows → corruption → loss → Lightning Fabric loop. Everything after the pack is batched on the device."""

NAMES = (
    "inbetween", "completion", "refinement", "passage", "generative",
    "positions_pretrain", "positions_completion", "positions_refinement", "smoothnet",
)  # fmt: skip
"""The tasks that ``train`` knows; `tasks.TASKS` holds their classes."""
