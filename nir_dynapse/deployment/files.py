"""Names of the files that a deployment writes into its folder; nothing is imported here."""

from __future__ import annotations

__all__ = ["FILES", "TRAINING_FILES"]

FILES = ("layout.json", "config.json.gz", "report.json", "report.txt", "report.html")
"""What `Deployment.write` writes into its folder."""
TRAINING_FILES = ("tuned.npz", "training.csv", "training.svg", "chips.svg")
"""What it writes besides where the network was trained: Params, log, its picture, accuracies before and after."""
