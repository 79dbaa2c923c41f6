"""`Board`, the protocol of real and virtual chips (which are in `export.samna_board` and `sim.virtual`); what both do
alike (`link`), and address events on the buses.

May import `layout` and what stands before it: `errors`, `files`, `chip`, `network`, `circuit`, `data`.
"""
