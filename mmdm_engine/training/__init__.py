"""Packs → windows → corruption → loss → Lightning Fabric loop. Everything after the pack is batched on the device."""
