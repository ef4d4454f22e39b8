"""A dress rehearsal: an experiment file is executed as it stands, but for what a small machine cannot do.

:mod:`~eval.rehearsal.replace` is the one place that says what is replaced; :mod:`~eval.rehearsal.standins` makes what
takes its place, :mod:`~eval.rehearsal.judge` plays the judge, and :mod:`~eval.rehearsal.run` puts them together.
"""
