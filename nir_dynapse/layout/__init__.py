"""`Layout`: the bits of a configured chip; what they mean (`decoding`), what they use (`utilisation`), how they are
rewritten.

May import `circuit` and `data`, and what those may.
"""
