"""A page for each arm, made from the file of its method: idea, formula, slots, options, and how its training went."""
