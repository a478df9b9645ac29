"""``manage.py bench``: Darkroom beside its peers, both sides measured in one run."""
