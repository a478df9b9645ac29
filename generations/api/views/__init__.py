"""One file per noun; each view is one domain call."""
