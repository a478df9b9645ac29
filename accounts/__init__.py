"""Our logins at the providers, and the users' credits."""
