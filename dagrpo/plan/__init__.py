"""What an experiment takes before it is started: memory of a GPU, and hours of each arm, by a stated model."""
