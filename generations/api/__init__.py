"""The REST API: HTTP and nothing else. What a request means is decided in ``intake``; what is told, in ``reports``."""
