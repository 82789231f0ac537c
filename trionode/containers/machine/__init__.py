"""The real machine under the containers: volumes, mounts, firewall, commands."""
