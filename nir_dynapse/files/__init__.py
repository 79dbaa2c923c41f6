"""Files that are whole or not there, and the one reader of what comes from outside, whose sizes are bounded before it
is read.

May import `errors` only; every room that touches a file goes through it.
"""
