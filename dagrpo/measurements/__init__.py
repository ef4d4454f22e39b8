"""Jobs that measure a base or a finished run: gradient conflict, the probe of a base, the check of its judges."""
