"""What keeps installed apps as they should be: containers, mounts, links, leftovers."""
