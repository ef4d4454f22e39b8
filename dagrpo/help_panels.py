"""Headings of ``dagrpo --help``: what a user wants to do."""

PREPARE = "Prepare an experiment"
FOLLOW = "Follow an experiment and read its results"
METHODS = "List and add methods"
GRADE = "Grade answers and run benchmarks"
MEASURE = "Measure scorers and gradient conflict"
JOBS = "Jobs that the workflow runs"

PANELS = (PREPARE, METHODS, FOLLOW, GRADE, MEASURE, JOBS)
"""In the order in which they are shown."""
