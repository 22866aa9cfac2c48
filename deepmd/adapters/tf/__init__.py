"""TensorFlow in graph mode: graphs and sessions of our own, no global switches."""

import os

from deepmd.process import import_without

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # most of the framework's start-up notes are not for our users
import_without("tensorflow", "keras")  # a second at every start; who asks for `tf.keras` still gets it
