"""`calibrate`: what the biases, neurons and CAM rows of a board are really like, from its spikes alone.

May import the nouns, the arrows `import_`, `sim`, `quant`, `export`, and `backend`; not `evaluation` or `lava_process`
beside it.
"""
