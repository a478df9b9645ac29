"""How the house is put together: settings, URLs, Celery, and the servers it runs on."""
