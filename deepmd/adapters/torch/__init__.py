"""torch: namespace of physics, derivatives, training, checkpoints `.pt`, TorchScript files `.pth`."""
