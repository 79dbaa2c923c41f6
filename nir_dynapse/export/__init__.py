"""From the inside out: NIR graphs, samna configurations, and the real board over samna.

May import nouns (`board`, `reporting` and all before them), no other arrow; samna only inside functions of
`samna_board`.
"""
