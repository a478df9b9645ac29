"""The control endpoint, ``/_sandbox/...``: what tests, drills and the page ask and set.

``GET  health``    ``{"ok": true, "name": "sandbox", ...}``
``GET  record``    calls, oldest first; ``?since=ID``, ``?kind=``, ``?key=``, ``?request_id=``, ``?limit=``
``GET  works``     work accepted, with ``accepted_at`` and ``finish_at``; ``?since=REMOTE_ID``
``GET  firings``   faults that struck
``GET  callbacks`` callbacks sent
``GET  summary``   counts, submits per X-Request-Id, most in flight per key, faults fired
``GET  faults``    the catalogue
``POST keys``      ``{"provider", "key", "limit"?, "balance"?, "enabled"?, "callback_url"?, "callback_secret"?,
                   "signature_form"?}``; answers the key's label
``POST rates``     ``{fault: probability}``; replaces the rates
``POST speed``     ``{"speed"?: F, "never_seconds"?: S}``
``POST reset``     forgets the record; ``{"keys": true}`` forgets keys too
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import fields
from typing import Any

from providers.sandbox import faults
from providers.sandbox.state import KeySettings, State
from providers.sandbox.web import Reply, Request, json_reply

PREFIX = "/_sandbox"
MOST_ROWS = 10_000
_KEY_TYPES: dict[str, type | tuple[type, ...]] = {
    "limit": (int, type(None)), "balance": (int, float, type(None)), "enabled": bool, "callback_url": str,
    "callback_secret": str, "signature_form": str,
}  # fmt: skip


class Control:
    """Answers the control endpoint. What it reads is durable: it waits for the record first."""

    def __init__(self, state: State, started_at: float) -> None:
        self._state = state
        self._started_at = started_at

    async def handle(self, request: Request, path: str) -> Reply:
        """Answer one call; ``path`` is what follows the prefix."""
        try:
            if request.method == "GET":
                return await self._read(path, request.query)
            if request.method == "POST":
                return await self._write(path, dict(json.loads(request.body or b"{}")))
        except (ValueError, TypeError, KeyError) as error:
            return json_reply({"error": str(error)}, 400)
        return json_reply({"error": f"There is no {request.method} {PREFIX}{path}."}, 404)

    async def _read(self, path: str, query: Any) -> Reply:
        state = self._state
        if path == "/health":
            up = round(time.time() - self._started_at, 1)
            return json_reply(
                {
                    "ok": True,
                    "name": "sandbox",
                    "uptime_seconds": up,
                    "speed": state.speed,
                    "never_seconds": state.never_seconds,
                    "seed": state.seed,
                    "rates": state.rates,
                }
            )
        if path == "/faults":
            return json_reply(faults.CATALOGUE)
        await state.record.durable()
        if path == "/summary":
            return json_reply(await asyncio.to_thread(self.summary))
        tables = {"/record": ("calls", "id"), "/works": ("works", "remote_id"),
                  "/firings": ("firings", "id"), "/callbacks": ("callbacks", "id")}  # fmt: skip
        if path not in tables:
            return json_reply({"error": f"There is no GET {PREFIX}{path}."}, 404)
        table, order = tables[path]
        sql, values = f"SELECT * FROM {table} WHERE {order} > ?", [int(query.get("since", 0))]  # noqa: S608
        for name in ("kind", "key", "request_id", "provider", "remote_id"):
            if name in query:
                sql += f" AND {name} = ?"
                values.append(query[name])
        sql += f" ORDER BY {order} LIMIT ?"
        values.append(max(1, min(int(query.get("limit", MOST_ROWS)), MOST_ROWS)))
        try:
            rows = await asyncio.to_thread(state.record.rows, sql, values)
        except Exception as error:
            raise ValueError(f"{table} cannot be asked for that: {error}") from error
        for row in rows:
            for name in ("spec", "faults", "echo", "track_id"):
                if name in row:
                    row[name] = json.loads(row[name])
            row.pop("webhook", None)
        return json_reply({table: rows})

    async def _write(self, path: str, data: dict[str, Any]) -> Reply:
        state = self._state
        if path == "/keys":
            answer = self._set_key(data)
        elif path == "/rates":
            state.rates = faults.checked_rates(data)
            state.remember("rates", state.rates)
            answer = {"rates": state.rates}
        elif path == "/speed":
            for name in ("speed", "never_seconds"):
                if name in data:
                    value = data[name]
                    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
                        raise ValueError(f"{name} must be a number from 0 to 86400.")
                    setattr(state, name, float(value))
                    state.remember(name, float(value))
            answer = {"speed": state.speed, "never_seconds": state.never_seconds}
        elif path == "/reset":
            state.reset(with_keys=bool(data.get("keys")))
            answer = {"ok": True}
        else:
            return json_reply({"error": f"There is no POST {PREFIX}{path}."}, 404)
        await state.record.durable()
        return json_reply(answer)

    def _set_key(self, data: dict[str, Any]) -> dict[str, Any]:
        provider, key = data.pop("provider"), data.pop("key")
        if provider not in ("pixverse", "modelslab") or not isinstance(key, str) or not key:
            raise ValueError("provider must be pixverse or modelslab, and key a text.")
        for name, value in data.items():
            if name not in _KEY_TYPES:
                raise ValueError(
                    f"A key has no {name}; it has {', '.join(field.name for field in fields(KeySettings))}."
                )
            if not isinstance(value, _KEY_TYPES[name]) or (isinstance(value, bool) and name != "enabled"):
                raise ValueError(f"{name} has the wrong type.")
        if data.get("signature_form", "query") not in ("query", "raw"):
            raise ValueError("signature_form must be query or raw.")
        found = self._state.configure(provider, key, data)
        return {"label": found.label, "limit": found.settings.limit, "enabled": found.settings.enabled}

    def summary(self) -> dict[str, Any]:
        """Everything a drill judges by, from the durable record (in-flight figures: from memory)."""
        rows, now = self._state.record.rows, time.time()
        kinds = rows("SELECT kind, provider, count(*) AS n, sum(created) AS made FROM calls GROUP BY kind, provider")
        by_kind: dict[str, int] = {}
        by_provider: dict[str, dict[str, int]] = {}
        for row in kinds:
            by_kind[row["kind"]] = by_kind.get(row["kind"], 0) + row["n"]
            by_provider.setdefault(row["provider"] or "", {})[row["kind"]] = row["n"]
        repeated = rows(
            "SELECT request_id, count(*) AS submits, sum(created) AS created FROM calls "
            "WHERE kind = 'submit' AND request_id != '' GROUP BY request_id HAVING count(*) > 1 "
            "ORDER BY 2 DESC LIMIT 50"
        )
        anonymous = rows("SELECT count(*) AS n FROM calls WHERE kind = 'submit' AND request_id = ''")[0]["n"]
        submits = sum(row["n"] for row in kinds if row["kind"] == "submit")
        finished = rows("SELECT count(*) AS n, sum(finish_at <= ?) AS done FROM works", (now,))[0]
        fired = rows("SELECT fault, count(*) AS n FROM firings GROUP BY fault ORDER BY fault")
        refused = rows("SELECT error, count(*) AS n FROM calls WHERE kind = 'submit' AND error != '' GROUP BY error")
        return {
            "calls": by_kind,
            "calls_by_provider": by_provider,
            "submits": {
                "total": submits,
                "accepted": sum(row["made"] for row in kinds if row["kind"] == "submit"),
                "refused": {row["error"]: row["n"] for row in refused},
                "max_per_request_id": repeated[0]["submits"] if repeated else int(submits > anonymous),
                "repeated_request_ids": repeated,
                "without_request_id": anonymous,
            },
            "works": {
                "accepted": finished["n"],
                "finished": finished["done"] or 0,
                "in_flight": finished["n"] - (finished["done"] or 0),
            },
            "keys": {
                key.label: {
                    "most_in_flight": key.most_in_flight,
                    "in_flight": sum(1 for finish_at in list(key.running) if finish_at > now),
                    "limit": key.settings.limit,
                    "accepted": key.accepted,
                    "refused_over_limit": key.over_limit,
                }
                for key in list(self._state.keys.values())
            },
            "faults": {row["fault"]: row["n"] for row in fired},
            "callbacks": {
                row["what"]: row["n"] for row in rows("SELECT what, count(*) AS n FROM callbacks GROUP BY what")
            },
        }
