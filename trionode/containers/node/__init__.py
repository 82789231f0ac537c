"""What this node is to the apps on it: machine, tier, place; and the services that say so."""
