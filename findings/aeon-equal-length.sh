#!/usr/bin/env bash
# aeon 1.6.0, load_classification(load_equal_length=True) and the files named _eq that come with it. Known since December 2026.
# Expected: series of unequal length are made equal by truncation, as its docstring says.
# Happens: all series of JapaneseVowels are resampled to 25 frames by Fourier (scipy.signal.resample), short ones stretched and long ones
# squeezed, as if they were periodic: their last frames are pulled towards the first ones.
# What to do: load them as they are (load_japanese_vowels), and interpolate, pad or truncate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install -q aeon==1.6.0 numpy==2.3.5 scipy==1.16.3
"$folder/env/bin/python" - <<'PY'
import sys

import numpy as np
from aeon.datasets import load_classification, load_japanese_vowels
from scipy.signal import resample

given, _ = load_classification("JapaneseVowels", split="TRAIN", load_equal_length=True)
plain, _ = load_japanese_vowels(split="TRAIN")
lengths = [x.shape[1] for x in plain]
off = max(np.abs(resample(x, 25, axis=1) - z).max() for x, z in zip(plain, given))
print(f"as they are: {min(lengths)} to {max(lengths)} frames; with load_equal_length: {np.shape(given)}")
print(f"it is scipy.signal.resample(x, 25) to {off:.1g}")
move, step = (np.median([np.abs(a).mean() for a in differences]) for differences in (
    [z[:, -1] - x[:, -1] for x, z in zip(plain, given)], [x[:, -1] - x[:, -2] for x in plain]))
print(f"the last frame is off by {move:.3f} (median), where two last frames differ by {step:.3f}")
holds = np.shape(given) == (270, 12, 25) and off < 1e-5 and move > step
sys.exit(0 if holds else "load_equal_length gives other series now")
PY
