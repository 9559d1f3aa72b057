"""Replays to watch: where they come from, the page in a browser, and films."""
