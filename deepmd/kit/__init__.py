"""DeePMD-kit's files: layouts of its `.dp`, readers of its `.pth`, `.pt`, `.pb` and checkpoints, and old inputs.

Needs no framework. The rest of the package reaches these functions through io/kit_table.py.
"""
