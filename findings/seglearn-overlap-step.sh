#!/usr/bin/env bash
# seglearn 1.2.5, transform.Segment. Known since December 2026.
# Expected: windows of 100 samples that overlap by 0.9 begin 10 samples apart, and those that overlap by 0.8 begin 20 apart.
# Happens: 9 and 19: width (1 - overlap) is 9.999... in floating point and rounded down. Of 10 samples with 0.8, every one, not every second.
# What to do: give step= in samples in place of overlap=.
# (It imports pandas, which it does not ask for: install that beside it.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install -q seglearn==1.2.5 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.7.2 pandas==2.3.3
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
from seglearn.transform import Segment

series, classes = [np.arange(400.0).reshape(400, 1)], np.arange(1)
found = []
for width, overlap, exact in ((100, 0.5, 50), (100, 0.9, 10), (100, 0.8, 20), (10, 0.8, 2)):
    windows, *_ = Segment(width=width, overlap=overlap).fit_transform(series, classes)
    found.append(int(windows[1, 0, 0] - windows[0, 0, 0]))
    print(f"width {width}, overlap {overlap}: {found[-1]} samples apart, {exact} expected; {len(windows)} windows")
sys.exit(0 if found == [50, 9, 19, 1] else "steps are rounded otherwise now")
PY
