"""WebSocket listener for TabAgent."""
