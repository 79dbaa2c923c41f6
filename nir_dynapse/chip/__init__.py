"""What the silicon is: `Device` with its limits and `PARAMETERS`, the bias generator, profiles of single chips; all of
DYNAP-SE2's numbers, here and nowhere else.

May import `errors` and `files`.
"""
