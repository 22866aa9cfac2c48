"""The physics: pure functions of (options, parameters, inputs) over the Python array API. No NumPy, no framework.

Start at `contracts` (what a descriptor, a fitting net and a model are asked), `neighbours` (the geometric input) and
`models/standard`. Formulas: docs/theory.
"""
