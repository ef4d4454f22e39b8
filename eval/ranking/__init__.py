"""Many arms in one order: which of them can be told apart when all pairs are compared at once."""
