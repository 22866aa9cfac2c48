"""Decisions about a model on the host, before evaluation: slots for neighbours, terms of expansions. No framework.

`expansions.py` chooses a plan, `plans.py` reads one, `chebyshev.py` has the matrices, `slots.py` resolves `sel`.
"""
