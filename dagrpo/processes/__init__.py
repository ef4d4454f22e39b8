"""Processes: the world of ranks, launching, GPU slots, signals, and signs of life."""
