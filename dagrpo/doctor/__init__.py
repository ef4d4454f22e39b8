"""Looks at a machine before anything is spent on it, and says whether an experiment can run there."""

from dagrpo.doctor.lines import Line, diagnose, verdict
from dagrpo.doctor.machine import Gpu, Machine, look

__all__ = ["Gpu", "Line", "Machine", "diagnose", "look", "verdict"]
