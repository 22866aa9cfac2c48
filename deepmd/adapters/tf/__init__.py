"""TensorFlow in graph mode: graphs and sessions of our own, no global switches."""

import os

# the framework's start-up notes are not for our users: naming its own default silences the one that ignores the level
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
