"""Lengths that a plan takes for granted."""

PROMPT_TOKENS = 1024
"""Prompt and its template at most, LUFFY's bound (arXiv 2504.14945)."""
SHARE_OF_BUDGET = 0.25
"""Mean length of a response, as a share of the budget: DaGRPO's figure 4 has 1200 to 2500 tokens of 8192."""
SHARE_OF_DEMONSTRATION = 0.5
"""Mean length of a demonstration, likewise; a guess."""
