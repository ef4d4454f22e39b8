"""Pure tensor functions: advantages, gates, token losses, aggregation.

Convention of names and shapes, for all modules here: ``(N,)`` are the rows of a step and ``(n,)`` the response tokens
of a micro-batch; ``group`` numbers the prompt of a row; ``logp`` is the log-probability (nats) under the policy that
is being trained and carries the gradient, ``old_logp`` under the policy that sampled, ``reference_logp`` under the
initial policy, and these two carry none. Losses are minimised.
"""
