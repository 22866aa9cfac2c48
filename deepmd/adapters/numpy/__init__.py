"""NumPy: the reference, and derivatives by the `autograd` package."""
