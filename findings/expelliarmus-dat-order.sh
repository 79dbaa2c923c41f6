#!/usr/bin/env bash
# expelliarmus 1.1.12 and faery 0.7.1, DAT files. Known since November 2026.
# Expected: events that stand in a DAT file a few us out of order are read with the times that stand there.
# Happens: expelliarmus takes every step back, be it of 2 us, for an overflow of the 32 bits: all later events come 71.6 minutes late.
# faery gives an event that is earlier than the one before it the time of that one, and refuses files of the older type 0x00.
# What to do: read the 8 bytes of each event with numpy, and count a step back as an overflow where it is more than 2^31 us.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q expelliarmus==1.1.12 faery==0.7.1 numpy==2.2.6
cd "$folder"
env/bin/python - <<'PY'
import sys
from pathlib import Path

import faery
import numpy as np
from expelliarmus import Wizard

times = [100, 105, 103, 200]
words = np.array([(t, 5 | 6 << 14 | 1 << 28) for t in times], "<u4")
head = b"% Version 2\n% Height 480\n% Width 640\n"
Path("small.dat").write_bytes(head + b"\x0c\x08" + words.tobytes())
late = Wizard(encoding="dat").read("small.dat")["t"].tolist()
moved = faery.events_stream_from_file("small.dat").to_array()["t"].tolist()
print(f"written {times}\nexpelliarmus {late}\nfaery {moved}")
sys.exit(0 if late[2] > 1 << 32 and moved != times else "DAT times are read as written now")
PY
