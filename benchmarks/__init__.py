"""How fast everything is, beside what one would take instead, measured in turn in the same run."""
