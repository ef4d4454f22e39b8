"""What the gradients of a group do to each other, measured on snapshots of a run."""
