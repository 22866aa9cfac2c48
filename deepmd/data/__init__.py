"""The host side in NumPy: systems, neighbour lists, packing into Pairs, batches, statistics."""
