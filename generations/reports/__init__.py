"""Read-only questions about what happens: why it waits, when it is done, its whole story, whether all is well."""
