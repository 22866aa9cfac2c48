"""One folder per framework: namespace, derivatives, training step, native files. Contracts: `contracts.py`."""
