"""What workers do: dispatch, poll, collect, settle, recover."""
