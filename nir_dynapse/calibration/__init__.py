"""`calibrate`: what the biases, neurons and CAM rows of a board are really like, from its spikes alone.

May import the arrows and what they may.
"""
