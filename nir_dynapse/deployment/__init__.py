"""`deploy`: all of it in one call, from a NIR file and a test set to a verified configuration and its report.

May import everything but `cli` and `lava_process`.
"""
