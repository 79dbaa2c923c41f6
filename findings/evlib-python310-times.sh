#!/usr/bin/env bash
# evlib 0.9.0, the newest one for Python 3.10 (0.13.2 needs 3.11 and is right). Known since November 2026.
# Expected: load_events of an EVT2 file gives the microseconds that stand in it.
# Happens: the upper part of the time is added without its factor of 64 (100 us = 1 * 64 + 36 becomes 37), and small times are taken
# for seconds: the event comes at 37 s.
# What to do: use Python 3.11 or newer, or another reader.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.10 -m venv "$folder/env"
"$folder/env/bin/pip" install -q evlib==0.9.0 numpy==2.2.6 polars==1.35.2
cd "$folder"
env/bin/python - <<'PY' 2>/dev/null
import sys
from pathlib import Path

import evlib
import numpy as np
import polars as pl

times = [100, 101, 163]
words = []
for t in times:
    words += [8 << 28 | t >> 6, 1 << 28 | (t & 63) << 22 | 5 << 11 | 6]
head = b"% evt 2.0\n% format EVT2;height=720;width=1280\n% end\n"
Path("small.raw").write_bytes(head + np.array(words, "<u4").tobytes())
held = evlib.load_events("small.raw").collect()
time = held["t"] if "t" in held.columns else held["timestamp"]
read = (time.dt.total_microseconds() if time.dtype == pl.Duration else time).to_list()
print(f"written {times} us, read {read} us")
sys.exit(0 if read != times else "evlib 0.9.0 reads the times as written now")
PY
