"""Files that are whole or not there (`whole`), and the one reader of what comes from outside, whose sizes are bounded
before it is read (`bounds`).

May import `errors`; every folder that touches a file goes through it.
"""
