"""`evaluate`: a network on many virtual chips, its statistics and checkpoints; checks of data against a network.

May import the arrows and what they may.
"""
