"""From amperes to bits, the compiler: bias codes, weight masks, groups and places of neurons, tags, and the rules that
its Layouts keep (`rules`, a function each).

May import the nouns (`errors`, `files`, `chip`, `network`, `circuit`, `data`, `layout`, `board`, `reporting`), none of
the other arrows `import_`, `sim`, `export`.
"""
