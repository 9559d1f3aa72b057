"""A policy in the formats of other programs."""
