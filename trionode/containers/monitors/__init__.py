"""What looks after installed apps over time: ends, surplus, updates, images, election, room."""
