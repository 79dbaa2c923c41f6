"""The command `nir-dynapse`, without logic of its own: a verb is an entry of `verbs`, its options are in `parser`, what
it prints in the module that `verbs` names.

May import everything but `lava_process`; rich here only.
"""
