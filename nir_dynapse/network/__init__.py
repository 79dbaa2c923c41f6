"""`Network`: a NIR graph flattened and checked, its populations, linear maps and readout, and the table `PRIMITIVES`;
SI seconds, dimensionless weights, NumPy.

May import `errors`, `files` and `chip`.
"""
