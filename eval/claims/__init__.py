"""The paper's claims as data, and the verdict that an experiment reaches on each."""
