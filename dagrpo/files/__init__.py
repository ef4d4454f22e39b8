"""Files that survive an interruption: atomic writes, sealed states, partial results, checked text."""
