"""What brings apps here: the spawner, the tests of its ports, and what peers are told of it."""
