"""Training, written once for all backends: input to job (`prepare.py`), loop, schedule, learning curve, checkpoints."""
