"""Noise schedules and samplers. Steps count from 0 (least noise) to K − 1 (most)."""

from .samplers import ddim, ddpm
from .schedule import Schedule

__all__ = ["Schedule", "ddim", "ddpm"]
