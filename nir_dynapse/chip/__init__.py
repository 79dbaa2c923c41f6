"""What the silicon is: `Device` and its table `PARAMETERS` (both in `device`), the bias generator, profiles of single
chips and their files; all of DYNAP-SE2's numbers, here and nowhere else.

May import `errors` and `files`.
"""
