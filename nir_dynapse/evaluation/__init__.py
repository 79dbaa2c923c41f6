"""`evaluate`: a network on many virtual chips, its statistics and checkpoints; whether data fits a network (`checks`).

May import the nouns, the arrows `import_`, `sim`, `quant`, `export`, and `backend`; not `calibration` or `lava_process`
beside it.
"""
