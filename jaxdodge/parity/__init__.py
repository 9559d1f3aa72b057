"""Check the simulator against recordings of the real game: `jaxdodge parity`."""
