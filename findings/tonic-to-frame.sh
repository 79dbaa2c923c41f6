#!/usr/bin/env bash
# tonic 1.7.0, transforms.ToFrame. Known since November 2026.
# Expected: every event of a recording is in a frame, or something says that it is not.
# Happens: with time_window or n_time_bins what lies behind the last whole window is dropped, and of events that are not in order of time
# most are, without a word; counts are int16.
# What to do: sort by time first, give include_incomplete=True, and compare the sum of the frames with the number of events.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install -q --no-deps tonic==1.7.0
"$folder/env/bin/pip" install -q numpy==2.4.6 h5py==3.16.0 scipy==1.17.1 tqdm typing_extensions importRosbag==1.0.4 expelliarmus==1.1.12 \
    requests pbr matplotlib librosa
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
from tonic.transforms import ToFrame

kind = np.dtype([("t", "i8"), ("x", "i8"), ("y", "i8"), ("p", "i8")])
events = np.array([(0, 0, 0, 0), (1500, 0, 0, 1), (2500, 0, 0, 1), (3999, 0, 0, 0), (4200, 0, 0, 1)], kind)
size = (1, 1, 2)
counts = {
    "time_window=1000": ToFrame(size, time_window=1000)(events),
    "n_time_bins=4": ToFrame(size, n_time_bins=4)(events),
    "the same events, the third of a window first": ToFrame(size, time_window=1000)(events[[3, 0, 1, 2, 4]]),
    "include_incomplete=True": ToFrame(size, time_window=1000, include_incomplete=True)(events),
}
for what, frames in counts.items():
    print(f"{what}: {int(frames.sum())} of 5 events, {frames.dtype}")
got = [int(frames.sum()) for frames in counts.values()]
sys.exit(0 if got[0] < 5 and got[1] < 5 and got[2] < got[0] and got[3] == 5 else "ToFrame keeps all events now")
PY
