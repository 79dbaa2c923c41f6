"""From the outside in: NIR files and graphs with the conventions of their frontends (`frontends`, a profile each),
samna configurations.

May import the nouns (`errors`, `files`, `chip`, `network`, `circuit`, `data`, `layout`, `board`, `reporting`), none of
the other arrows `sim`, `quant`, `export`.
"""
