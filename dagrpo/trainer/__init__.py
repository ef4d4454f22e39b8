"""The loop that runs an algorithm's slots: collect rows, turn them into a loss, step, record, seal."""
