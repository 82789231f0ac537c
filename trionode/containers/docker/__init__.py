"""Docker behind the engine port, spoken to through aiodocker; nothing of asyncio leaves this room."""
