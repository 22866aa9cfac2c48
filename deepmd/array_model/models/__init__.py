"""Model kinds, one module each (see `deepmd.array_model.registry`)."""
