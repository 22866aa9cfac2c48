"""What is decided about a model on the host before anything is evaluated: slots for neighbours, terms of expansions."""
