"""What granian serves for the peer of P1."""

from config.bench.bare import application_without_middleware

application = application_without_middleware()
