"""The host side in NumPy: systems, neighbour lists, packing into Neighbours, batches, statistics."""
