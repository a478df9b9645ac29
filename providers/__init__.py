"""The wire: what providers speak, translated to Darkroom's words. No Django, no sockets in adapters."""
