"""Randomised runs: plans drawn from seeds, carried out, judged, and cut down (docs/simulator.md)."""
