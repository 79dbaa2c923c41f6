"""Simulation: the circuits' equations in NumPy and JAX, NIR semantics (`reference`), mismatch of virtual chips
(`mismatch`); kernels in `native`, boards and chips made of it in `virtual`.

May import the nouns (`errors`, `files`, `chip`, `network`, `circuit`, `data`, `layout`, `board`, `reporting`), none of
the other arrows `import_`, `quant`, `export`; JAX, but not in `circuit`, `closeup`, `disturbance`, `dynamics`,
`mismatch`, `wiring`, nor in `native/play`, `native/plain` and `native/synapses`, and in `simulation`, `reference` and
`ensemble` only where XLA runs.
"""
