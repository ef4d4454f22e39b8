"""The model under training: loading and saving it, and the log-probabilities that its gradient flows through."""
