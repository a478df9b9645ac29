"""The sandbox: a stand-in for the providers, in a process of its own, and a witness of what was asked.

    python -m providers.sandbox --port 0 --data var/sandbox [--seed N] [--speed F] [--rates JSON]

It prints one line, ``sandbox listening on http://127.0.0.1:PORT``, speaks the providers' own
protocols, makes real pictures and videos, misbehaves on demand, and writes every call down
*before* it answers or misbehaves. It imports neither Django nor an adapter: what it knows of a
protocol it knows from the protocol's description, so that an adapter's mistake is not mirrored.

Where things are
    ``/pixverse/openapi/v2/...``    base URL of a Pixverse account: ``http://HOST/pixverse/openapi/v2``
    ``/modelslab/api/...``          base URL of a ModelsLab account: ``http://HOST/modelslab/api``
    ``/media/...``                  results; no authentication
    ``/_sandbox/...``               the control endpoint (see ``control.py``; client in ``client.py``)
    ``/``                           a page for people

Keys
    Any key whose text starts with ``sandbox`` is good, and so is one registered by the control
    endpoint. One that contains ``broke`` has no credits, one that contains ``forbidden`` may look
    (status, balance) but not generate; every other key gets the provider's own authentication
    error. A key has no concurrency limit unless the control endpoint sets one; what is in flight
    is recorded anyway. Keys are stored and shown only as ``provider:first 12 hex of the sha-256``.

Time
    A picture takes about 1 s, a video about 3 s, times ``--speed`` (0.1: ten times quicker; 0: at
    once). Whether work is finished is a question of its stored timestamps only, so a sandbox that
    was killed goes on, after its start, as if it had never stopped.

Faults
    By marker in the prompt, ``[[fault:NAME]]``, ``[[fault:NAME:ARGUMENT]]`` (as in
    ``[[fault:429:30]]``), ``[[fault:NAME*2]]`` (only for the first two submits of this very prompt
    by this key), several at once if need be; or by ``--rates '{"accept_then_drop": 0.05}'``, one
    draw per submit, seeded by ``--seed``. A prompt with a marker takes no part in the draw, so
    ``[[fault:none]]`` is a way to be left alone. ``faults.py`` is the catalogue.

The record
    SQLite in the data folder: calls, work accepted, faults fired, callbacks sent, and the most
    work ever in flight per key, counted when work is accepted.
"""
