"""Check the simulator against recordings of the real game: `python -m jaxdodge.parity`."""
