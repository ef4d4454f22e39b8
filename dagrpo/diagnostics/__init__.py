"""What the gradients of a group do to each other."""
