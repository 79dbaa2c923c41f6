"""From the outside in: NIR files and graphs with their frontends' conventions, samna configurations.

May import nouns (`board`, `reporting` and all before them), no other arrow.
"""
