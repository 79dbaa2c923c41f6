"""`Network`, a NIR graph flattened and checked, in SI seconds and NumPy; the table `PRIMITIVES` (in `primitives`) with
an entry for every NIR node, whose equations are in `neurons` and `linear`; the readout on the host.

May import `errors`, `files` and `chip`.
"""
