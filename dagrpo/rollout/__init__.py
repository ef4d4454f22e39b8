"""Sampling responses from a policy, behind one protocol."""
