"""Training, written once: schedule, batches, loop, learning curve, checkpoints."""
