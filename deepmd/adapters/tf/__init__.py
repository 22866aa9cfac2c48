"""TensorFlow in graph mode: graphs and sessions of our own, no global switches. Built in `graph.py`."""

import os

from deepmd.process import import_without, load_triton

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # without information and warnings of the framework's start
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # also where SavedModels are written, without a session
load_triton()
# Keras would add 0.8 s to every start (docs/benchmarks.md#where-the-time-goes); `tf.keras` still imports Keras
import_without("tensorflow", "keras")
