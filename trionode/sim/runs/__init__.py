"""Randomised runs: a plan drawn from a seed, carried out, judged, and shrunk when it fails (docs/simulator.md)."""
