"""A sandbox's disk: what changed over its image, as one compressed archive that another machine unpacks."""
