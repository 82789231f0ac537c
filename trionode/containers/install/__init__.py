"""Installing, removing and making apps anew, in steps that are undone when one fails."""
