"""Shared core of the DaGRPO reproduction harness (arXiv 2512.06337)."""
