"""Recordings of the real game and API sessions, as files."""
