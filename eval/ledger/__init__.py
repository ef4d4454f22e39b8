"""The ledger of a study: one record a run, from which its tables, figures, claims and report are made again."""
