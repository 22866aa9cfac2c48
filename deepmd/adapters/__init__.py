"""One folder a framework. A backend gives derivatives, a training step and its native files; nothing more."""
