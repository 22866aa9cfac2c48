"""torch: derivatives, training, TorchScript files."""
