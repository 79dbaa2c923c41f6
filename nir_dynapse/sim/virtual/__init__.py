"""Virtual chips: `chip` runs the bits of a Layout on one specimen, `link` and `board` speak with it as with a real one.

May import what `sim` may.
"""
