"""What people ask for: request, cancel, retry, quote, uploads. No HTTP here."""
