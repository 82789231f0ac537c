"""A local network of real node processes on the loopback range, for people and for tests."""
