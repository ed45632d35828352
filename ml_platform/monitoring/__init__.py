"""Watching what is served: reference sketches, drift, realised performance."""
