"""Host side in NumPy: systems, neighbour lists, packing into `Neighbours`, batches, statistics.

`search.py`, `cells.py` and `pack_candidates.py` are written over `xp`, for exported files.
"""
