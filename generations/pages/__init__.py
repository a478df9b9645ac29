"""Plain pages for a logged-in user."""
