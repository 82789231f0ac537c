"""The memory twins of engine, disk and firewall: simulator and tests run on them."""
