"""The nine benchmarks: their rows, prompts and lm-eval tasks, our engine as a model of lm-eval, and their scores."""
