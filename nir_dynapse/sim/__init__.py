"""Simulation: the circuits' dynamics, NIR semantics, virtual chips."""
