"""Draws what the sandbox delivers: a scene and a palette chosen by the words of the prompt and the seed.

No model is behind it: the same prompt, seed and size always give the same picture. It runs in a
process of its own (``python -m providers.sandbox.art``), one order per line, so that drawing never
holds up the server.
"""
