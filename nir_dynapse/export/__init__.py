"""From the inside out: NIR graphs, also in the dialect of a reader, samna configurations, and the real board over
samna.

May import the nouns (`errors`, `files`, `chip`, `network`, `circuit`, `data`, `layout`, `board`, `reporting`), none of
the other arrows `import_`, `sim`, `quant`; samna only inside functions of `samna_board`.
"""
