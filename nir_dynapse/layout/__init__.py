"""`Layout`: the bits of a configured chip and whether they fit together (`checks`), what they mean (`decoding`) and use
(`utilisation`), how they are rewritten; which bits are good is decided in `quant`.

May import `errors`, `files`, `chip`, `network`, `circuit` and `data`.
"""
