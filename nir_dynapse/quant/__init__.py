"""From amperes to bits: `compile`, bias codes, weight masks, groups and places of neurons, tags, and the rules of a
Layout.

May import nouns (`board`, `reporting` and all before them), no other arrow.
"""
