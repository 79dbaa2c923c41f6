"""`report` as text, JSON and one HTML page; its tables and SVG pictures, and the log of a training.

May import `layout` and what that may; it is handed results and computes none.
"""
