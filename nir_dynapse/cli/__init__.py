"""The command `nir-dynapse`: its parser, verbs, output and progress; no logic of its own.

May import everything but `lava_process`; rich here only.
"""
