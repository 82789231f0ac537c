"""Image registries: what they offer, who may fetch it, and a twin in memory."""
