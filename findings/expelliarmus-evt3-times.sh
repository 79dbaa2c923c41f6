#!/usr/bin/env bash
# expelliarmus 1.1.12, Wizard(encoding="evt3"). Known since November 2026.
# Expected: an EVT3 file as Prophesee describes it (TIME_HIGH words of 12 bits, one for each 4096 us, TIME_LOW words of 12 bits) is read with
# its times.
# Happens: when TIME_LOW begins anew behind the next TIME_HIGH, that is counted once more: every 4096 us add another 4096 us. A file with
# a trigger word (EXT_TRIGGER) is not read at all.
# What to do: read EVT3 with evt3 or faery; expelliarmus reads the EVT3 that it has written itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q expelliarmus==1.1.12 evt3==0.4.1 numpy==2.2.6
cd "$folder"
env/bin/python - <<'PY'
import sys
from pathlib import Path

import evt3
import numpy as np
from expelliarmus import Wizard

times = [10, 4095, 4096, 9000, 13000]
words, high = [], None
for t in times:
    if t >> 12 != high:
        first = 0 if high is None else high + 1
        words += [0x8000 | k for k in range(first, (t >> 12) + 1)]  # TIME_HIGH, every one of them, as cameras write them
        high = t >> 12
    words += [0x6000 | t & 0xFFF, 7, 0x2800 | 9]  # TIME_LOW, ADDR_Y, ADDR_X with polarity
head = b"% evt 3.0\n% format EVT3;height=720;width=1280\n% end\n"
Path("small.raw").write_bytes(head + np.array(words, "<u2").tobytes())
read = Wizard(encoding="evt3").read("small.raw")["t"].tolist()
right = evt3.decode_file("small.raw").timestamp.tolist()
print(f"written {times}\nexpelliarmus {read}\nevt3 {right}")
sys.exit(0 if right == times and read != times else "expelliarmus reads EVT3 times as written now")
PY
