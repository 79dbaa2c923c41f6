"""`report` as text and JSON (`report`) and as one HTML page (`page`, a section is an entry of its `_sections`); tables,
SVG pictures, the log of a training: it is handed results and computes none.

May import `layout` and what stands before it: `errors`, `files`, `chip`, `network`, `circuit`, `data`; not `board`.
"""
