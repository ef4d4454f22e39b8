"""Baselines: one file a method, with its idea, paper, formula and defaults at the head."""
