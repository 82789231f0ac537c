"""The simulated world: virtual network, chain, faults, invariants and scenarios."""
