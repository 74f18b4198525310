"""Training: the state, the pure step, evaluation, checkpoints, and the one loop over them."""
