"""What runs on this node: the engine port, boot and departure, monitors, announcements (lifecycle.md)."""
