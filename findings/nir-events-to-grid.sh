#!/usr/bin/env bash
# nir 1.0.8, EventData.to_time_gridded(dt). Known since November 2026.
# Expected: events that TimeGriddedData.to_event wrote for a grid are in the same bins when they are gridded again.
# Happens: both time / dt and t_max / dt are rounded down, and k * dt / dt is below k for some k, as is n * dt / dt for some n: spikes
# move a bin forward (and merge with what is there), and one in the last bin of 49 at 0.1 ms raises an IndexError.
# What to do: write times in the middle of the bin, (k + 0.5) * dt (time_shift=dt / 2), and t_max a little later, n * dt * (1 + 1e-12).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q nir==1.0.8 numpy==2.2.6
"$folder/env/bin/python" - <<'PY'
import sys

import nir
import numpy as np

lost = {}
for dt in (1e-3, 1e-4, 5e-3):
    events = nir.TimeGriddedData(np.ones((1, 1000, 1), bool), dt).to_event(n_events=1000)
    lost[dt] = 1000 - int(events.to_time_gridded(dt).data.sum())
    print(f"dt = {dt:g} s: {lost[dt]} of 1000 spikes lost")
try:
    nir.EventData(np.array([[0]]), np.array([[48.5e-4]]), 1, 49 * 1e-4).to_time_gridded(1e-4)
    last = "read"
except IndexError:
    last = "IndexError"
print(f"a spike in the last of 49 bins of 0.1 ms: {last}")
middle = nir.EventData(np.zeros((1, 1000), int), (np.arange(1000)[None] + 0.5) * 1e-4, 1, 0.1 * (1 + 1e-12))
kept = int(middle.to_time_gridded(1e-4).data.sum())
print(f"written in the middle of the bins: {kept} of 1000 are there")
sys.exit(0 if lost[1e-4] and lost[5e-3] and kept == 1000 else "nir grids its own events without loss now")
PY
