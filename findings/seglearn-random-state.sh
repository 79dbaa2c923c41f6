#!/usr/bin/env bash
# seglearn 1.2.5, transform.Segment (and what it is the base of). Known since December 2026.
# Expected: with shuffle=True and an integer as random_state every call gives the same order, as its docstring says.
# Happens: random_state is checked and dropped; the order comes from NumPy's global generator and differs from call to call.
# What to do: call numpy.random.seed before each transform, or leave shuffle out and shuffle outside.
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

series, classes = [np.arange(400.0).reshape(400, 1) for _ in range(3)], np.arange(3)


def order():
    return Segment(width=20, shuffle=True, random_state=0).fit_transform(series, classes)[1]


first, second = order(), order()
np.random.seed(0)
third = order()
np.random.seed(0)
fourth = order()
print(f"{(first != second).sum()} of {len(first)} segments elsewhere in a second call with random_state=0")
print(f"{(third != fourth).sum()} where numpy.random.seed(0) was called before both")
holds = (first != second).any() and (third == fourth).all()
sys.exit(0 if holds else "random_state is used now")
PY
