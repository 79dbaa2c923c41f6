"""Figures for notebooks: rasters, membranes, floor plans, accuracies of many chips, one neuron through a spike.

May import what `evaluation` may, and `evaluation`, `calibration`; matplotlib here only, inside functions.
"""

from __future__ import annotations

from nir_dynapse.figures.notebook import devices, floor_plan, membranes, raster, rasters, through_a_spike

__all__ = ["devices", "floor_plan", "membranes", "raster", "rasters", "through_a_spike"]
