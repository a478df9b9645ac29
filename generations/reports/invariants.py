"""The invariants as SQL: each query gives the rows that break it, as (what it is, its id, what is wrong).

Every one is a single statement (a snapshot of its own), and a scan or hash join at most: seconds at a million rows.
Times are the database's.
"""

# ruff: noqa: S608  (nothing but the names of states and constants of this file is put into the SQL)

from __future__ import annotations

from dataclasses import dataclass

from generations.lifecycle import BILLABLE, ENDED, HOLDS_SLOT, LIVE, OPEN, TERMINAL


def _in(states: frozenset[str]) -> str:
    return "(" + ", ".join(f"'{state}'" for state in sorted(str(state) for state in states)) + ")"


@dataclass(frozen=True, slots=True)
class Invariant:
    """``sql`` gives (noun, id, detail) of each offender. ``needs_services``: it only holds while they are up."""

    id: str
    title: str
    sql: str
    needs_services: bool = False


LATE = "interval '2 minutes'"
"""I7: how late an end may be."""
LEASE_LATE = "interval '15 seconds'"
"""I13: how long an expired lease may lie."""
DUE_LATE = "interval '40 seconds'"
"""I13: how long a due one may wait beside a free slot."""

TOLD_LATELY = "interval '1 day'"
"""I12: deliveries are kept for longer than this."""
CHANGE = "interval '1 minute'"
"""I12: how long an end may take that does not see a change of an endpoint yet."""
LISTENS = "e.disabled_at IS NULL AND e.removed_at IS NULL AND 'generation.' || g.status = ANY(e.events)"
UNTOLD = (
    "NOT EXISTS (SELECT 1 FROM generations_webhookdelivery d WHERE d.endpoint_id = e.id AND d.generation_id = g.id"
    " AND d.event = 'generation.' || g.status)"
)

ATTEMPT_TWICE = """
SELECT 'generation', generation_id::text, count(*) || ' attempts have the number ' || number
  FROM generations_submission GROUP BY generation_id, number HAVING count(*) > 1
"""

TWO_BILLABLE = f"""
SELECT 'generation', s.generation_id::text,
       count(*) || ' attempts may be billed (' || string_agg('#' || s.number || ' ' || s.state, ', ' ORDER BY s.number)
       || ') and ' || min(g.resubmits) || ' were resubmitted'
  FROM generations_submission s JOIN generations_generation g ON g.id = s.generation_id
 WHERE s.state IN {_in(BILLABLE)}
 GROUP BY s.generation_id
HAVING count(*) FILTER (WHERE s.abandoned_at IS NULL) > 1 OR count(*) > 1 + min(g.resubmits)
"""

OPEN_BESIDE_STATUS = f"""
SELECT 'generation', g.id::text, 'is ' || g.status || ', and attempt #' || s.number || ' is ' || s.state
       || CASE WHEN s.state IN {_in(BILLABLE)} THEN ' and not abandoned' ELSE '' END
  FROM generations_submission s JOIN generations_generation g ON g.id = s.generation_id
 WHERE s.state IN {_in(OPEN)} AND g.status <> 'processing'
   AND (s.abandoned_at IS NULL OR s.state NOT IN {_in(BILLABLE)})
"""

CLAIM_SHARED = f"""
SELECT 'user', user_id::text, count(*) || ' generations claim ' || active_fingerprint
  FROM generations_generation
 WHERE active_fingerprint IS NOT NULL AND status IN {_in(LIVE | {"completed"})}
 GROUP BY user_id, active_fingerprint HAVING count(*) > 1
"""

CLAIM_KEPT = f"""
SELECT 'generation', g.id::text, 'is ' || g.status || ', may not be billed any more, and still blocks its request'
  FROM generations_generation g
 WHERE g.status IN ('failed', 'cancelled') AND g.active_fingerprint IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM generations_submission s
                    WHERE s.generation_id = g.id AND s.state IN {_in(BILLABLE)})
"""

SLOT_RANGE = f"""
SELECT 'submission', id::text, 'is ' || state || ' on slot ' || coalesce(slot::text, 'none') || ' of ' || limit_seen
  FROM generations_submission
 WHERE state IN {_in(HOLDS_SLOT)} AND (slot BETWEEN 1 AND limit_seen) IS NOT TRUE
"""

SLOT_SHARED = f"""
SELECT 'account', account_id::text, count(*) || ' attempts hold slot ' || slot
  FROM generations_submission WHERE state IN {_in(HOLDS_SLOT)} GROUP BY account_id, slot HAVING count(*) > 1
"""

WALLET_SUM = """
SELECT 'wallet', w.user_id::text,
       'says ' || w.available || ' available and ' || w.held || ' held; its ledger adds up to '
       || coalesce(l.available, 0) || ' and ' || coalesce(l.held, 0)
  FROM accounts_wallet w
  LEFT JOIN (SELECT wallet_id, sum(available_change) AS available, sum(held_change) AS held
               FROM accounts_ledgerentry GROUP BY wallet_id) l ON l.wallet_id = w.user_id
 WHERE w.available <> coalesce(l.available, 0) OR w.held <> coalesce(l.held, 0) OR w.available < 0 OR w.held < 0
"""

MONEY = """
SELECT 'generation', g.id::text,
       g.status || coalesce(' at ' || g.price || ' credits', ', free') || ': '
       || coalesce(l.entries, 'no ledger entries')
  FROM generations_generation g
  LEFT JOIN (SELECT reference,
                    count(*) FILTER (WHERE kind = 'hold') AS holds,
                    count(*) FILTER (WHERE kind = 'capture') AS captures,
                    count(*) FILTER (WHERE kind = 'release') AS releases,
                    count(*) FILTER (WHERE kind = 'refund') AS refunds,
                    sum(held_change) FILTER (WHERE kind = 'hold') AS held,
                    sum(held_change) FILTER (WHERE kind IN ('hold', 'capture', 'release')) AS still_held,
                    sum(available_change) FILTER (WHERE kind IN ('hold', 'release')) AS taken,
                    coalesce(sum(available_change) FILTER (WHERE kind = 'refund'), 0) AS refunded,
                    coalesce(sum(held_change) FILTER (WHERE kind = 'refund'), 0) AS refunded_held,
                    string_agg(kind || ' ' || available_change || '/' || held_change, ', ' ORDER BY id) AS entries
               FROM accounts_ledgerentry
              WHERE reference IS NOT NULL AND kind IN ('hold', 'capture', 'release', 'refund')
              GROUP BY reference) l ON l.reference = g.id
 WHERE CASE
         WHEN g.price IS NULL THEN l.reference IS NOT NULL
         WHEN l.reference IS NULL THEN g.price > 0
         ELSE l.holds <> 1 OR l.held <> g.price
              OR l.captures <> (g.status = 'completed')::int
              OR l.releases <> (g.status IN ('failed', 'cancelled'))::int
              OR l.still_held <> CASE WHEN g.status IN ('pending', 'processing') THEN g.price ELSE 0 END
              OR l.taken <> CASE WHEN g.status IN ('failed', 'cancelled') THEN 0 ELSE -g.price END
              OR l.refunds > l.captures OR l.refunds > 0 AND l.refunded < 1
              OR l.refunded NOT BETWEEN 0 AND g.price OR l.refunded_held <> 0
       END
"""

REFUND_TOLD = """
SELECT 'generation', coalesce(r.reference, e.generation_id)::text,
       CASE WHEN e.id IS NULL THEN 'was refunded, and its timeline does not say so'
            ELSE 'says that it was refunded, and its ledger does not' END
  FROM (SELECT reference FROM accounts_ledgerentry WHERE kind = 'refund'
           AND EXISTS (SELECT 1 FROM generations_generation g WHERE g.id = reference)) r
  FULL JOIN (SELECT id, generation_id FROM generations_event WHERE kind = 'refunded') e
         ON e.generation_id = r.reference
 WHERE e.id IS NULL OR r.reference IS NULL
"""

PAST_QUEUE = f"""
SELECT 'generation', id::text, 'still waits, and its time in the queue was over at ' || queue_until
  FROM generations_generation WHERE status = 'pending' AND queue_until < now() - {LATE}
"""

PAST_DEADLINE = f"""
SELECT 'generation', g.id::text,
       CASE WHEN s.state IS NULL THEN 'is processing without an open attempt'
            WHEN s.state = 'collecting' THEN 'is being collected, which was to be over at ' || s.collect_by
            WHEN g.cancel_at < now() - {LATE} THEN 'its cancel was to be done at ' || g.cancel_at
            ELSE 'its deadline was at ' || g.deadline_at END
  FROM generations_generation g
  LEFT JOIN generations_submission s
         ON s.generation_id = g.id AND s.state IN {_in(OPEN)} AND s.abandoned_at IS NULL
 WHERE g.status = 'processing'
   AND CASE WHEN s.state IS NULL THEN TRUE
            WHEN s.state = 'collecting' THEN s.collect_by < now() - {LATE}
            ELSE g.deadline_at < now() - {LATE} OR g.cancel_at < now() - {LATE} END
"""

COMPLETED_EMPTY = """
SELECT 'generation', g.id::text, 'is completed and has no stored output'
  FROM generations_generation g
 WHERE g.status = 'completed'
   AND NOT EXISTS (SELECT 1 FROM generations_submission s JOIN generations_asset a ON a.submission_id = s.id
                    WHERE s.generation_id = g.id AND s.state = 'succeeded' AND s.abandoned_at IS NULL
                      AND a.role = 'output' AND a.size > 0 AND a.key <> '' AND a.sha256 ~ '^[0-9a-f]{64}$')
"""

EXPIRED_ANSWERS = """
SELECT DISTINCT 'generation', g.id::text, 'still answers its request, and files of it have expired'
  FROM generations_asset a
  JOIN generations_submission s ON s.id = a.submission_id
  JOIN generations_generation g ON g.id = s.generation_id
 WHERE a.expired_at IS NOT NULL AND g.status = 'completed' AND g.active_fingerprint IS NOT NULL
"""

CAPTURED_NOT_COMPLETED = """
SELECT 'generation', g.id::text, 'is ' || g.status || ', and its attempt #' || s.number || ' succeeded'
  FROM generations_submission s JOIN generations_generation g ON g.id = s.generation_id
 WHERE s.state = 'succeeded' AND s.abandoned_at IS NULL AND g.status <> 'completed'
"""

JOB_SHARED = """
SELECT 'account', account_id::text, count(*) || ' attempts have the job id ' || provider_job_id
  FROM generations_submission WHERE provider_job_id IS NOT NULL
 GROUP BY account_id, provider_job_id HAVING count(*) > 1
"""

JOB_AND_STATE = """
SELECT 'submission', id::text,
       CASE state WHEN 'accepted' THEN 'is accepted and has no job id' ELSE 'is reserved and was sent' END
  FROM generations_submission
 WHERE state = 'accepted' AND coalesce(provider_job_id, '') = ''
    OR state = 'reserved' AND (sent_at IS NOT NULL OR provider_job_id IS NOT NULL)
"""

KEY_TWICE = """
SELECT 'batch', batch_id::text, count(*) || ' items are called ' || coalesce(quote_literal(variation_key), 'nothing')
  FROM generations_batchitem GROUP BY batch_id, variation_key HAVING count(*) > 1 OR variation_key IS NULL
"""

ITEM_STRANGE = """
SELECT 'batch', b.id::text, 'its item ' || i.variation_key || ' is answered by generation ' || g.id
       || ' of another user, provider or operation'
  FROM generations_batchitem i
  JOIN generations_batch b ON b.id = i.batch_id
  JOIN generations_generation g ON g.id = i.generation_id
 WHERE (g.user_id, g.provider_id, g.operation_type) IS DISTINCT FROM (b.user_id, b.provider_id, b.operation_type)
"""

CLOSED_TOO_EARLY = f"""
SELECT 'batch', b.id::text, 'is closed, and its item ' || min(i.variation_key) || ' has not ended'
  FROM generations_batch b
  JOIN generations_batchitem i ON i.batch_id = b.id AND i.detached_at IS NULL
  JOIN generations_generation g ON g.id = i.generation_id AND g.status IN {_in(LIVE)}
 WHERE b.closed_at IS NOT NULL
 GROUP BY b.id
"""

NOT_CLOSED = f"""
SELECT 'batch', b.id::text, 'is over since ' || max(g.completed_at) || ' and not closed'
  FROM generations_batch b
  JOIN generations_batchitem i ON i.batch_id = b.id AND i.detached_at IS NULL
  JOIN generations_generation g ON g.id = i.generation_id
 WHERE b.closed_at IS NULL
 GROUP BY b.id
HAVING bool_and(g.status IN {_in(ENDED)}) AND max(g.completed_at) < now() - {LATE}
"""

END_EVENT = f"""
SELECT 'generation', g.id::text,
       'is ' || g.status || coalesce(', and its last event says ' || e.kind, ' and has no event that says so')
  FROM generations_generation g
  LEFT JOIN generations_event e ON e.generation_id = g.id AND e.kind IN {_in(ENDED)}
 WHERE g.status IN {_in(ENDED)} AND e.kind IS DISTINCT FROM g.status
    OR g.status IN {_in(LIVE)} AND e.id IS NOT NULL
"""

END_EVENT_TWICE = f"""
SELECT 'generation', generation_id::text, 'ended ' || count(*) || ' times'
  FROM generations_event WHERE kind IN {_in(ENDED)} GROUP BY generation_id HAVING count(*) > 1
"""

DELIVERY_MISSING = f"""
SELECT 'generation', g.id::text, 'ended as ' || g.status || ', and its webhook_url ' || e.id || ' is not told'
  FROM generations_generation g JOIN generations_webhookendpoint e ON e.generation_id = g.id
 WHERE g.completed_at > now() - {TOLD_LATELY} AND {LISTENS} AND {UNTOLD}
UNION ALL
SELECT 'generation', g.id::text, 'ended as ' || g.status || ', and the endpoint ' || e.id || ' is not told'
  FROM generations_generation g JOIN generations_webhookendpoint e ON e.generation_id IS NULL AND e.user_id = g.user_id
 WHERE g.completed_at > now() - {TOLD_LATELY} AND g.completed_at > e.changed_at + {CHANGE} AND {LISTENS} AND {UNTOLD}
"""

# Who waits behind others of the same user and host waits rightly, as long as these are sent.
DELIVERY_LEFT = f"""
SELECT 'webhook delivery', d.id::text, 'was due to ' || d.host || ' at ' || d.next_try_at
  FROM generations_webhookdelivery d
 WHERE d.state = 'pending' AND greatest(d.next_try_at, d.lease_until) < now() - {LATE}
   AND NOT EXISTS (SELECT 1 FROM generations_webhookdelivery o
                    WHERE o.user_id = d.user_id AND o.host = d.host AND o.tried_at > now() - {LATE})
"""

EXPORT_MISSING = """
SELECT 'batch', b.id::text, i.variation_key || ' has completed, and is not exported as ' || (f->>'format')
  FROM generations_batch b
  CROSS JOIN LATERAL jsonb_array_elements(b.export_formats) f
  JOIN generations_batchitem i ON i.batch_id = b.id AND i.detached_at IS NULL
  JOIN generations_generation g ON g.id = i.generation_id AND g.status = 'completed'
  JOIN generations_submission s ON s.generation_id = g.id AND s.state = 'succeeded' AND s.abandoned_at IS NULL
  JOIN generations_asset a ON a.submission_id = s.id AND a.role = 'output' AND a.expired_at IS NULL
 WHERE b.closed_at IS NOT NULL
   AND NOT EXISTS (SELECT 1 FROM generations_export e
                    WHERE e.asset_id = a.id AND e.format = f->>'format' AND e.fit = f->>'fit'
                      AND e.colour = f->>'colour')
"""

# Who waits behind others waits rightly, as long as any are made.
EXPORT_LEFT = f"""
SELECT 'export', e.id::text, 'was due at ' || e.next_try_at
  FROM generations_export e
 WHERE e.state = 'pending' AND greatest(e.next_try_at, e.lease_until) < now() - {LATE}
   AND NOT EXISTS (SELECT 1 FROM generations_export o WHERE o.lease_until > now() OR o.ended_at > now() - {LATE})
   AND NOT EXISTS (SELECT 1 FROM generations_heldback h WHERE h.ended_at IS NULL OR h.ended_at > now() - {LATE})
"""

LEASE_LOST = f"""
SELECT 'submission', id::text, 'is ' || state || ', and its lease expired at ' || lease_until
  FROM generations_submission
 WHERE state IN ('reserved', 'sending', 'collecting') AND lease_until < now() - {LEASE_LATE}
"""

# A slot that was freed a moment ago is about to be used; one whose account has just come back (a cooldown is over, a
# new day has begun), one that a user's cap has just made room for, and one whose pause has just been lifted too: all
# get the same time. What is paused may wait, and while the house holds back, nothing is sent. A retry is due since its
# delay was over, anything else since it was accepted, scheduled for, or woken.
DUE_LEFT = f"""
WITH recently AS MATERIALIZED (
    SELECT account_id, count(*) AS freed
      FROM generations_submission
     WHERE state NOT IN {_in(HOLDS_SLOT)} AND coalesce(finished_at, ended_at) > now() - {DUE_LATE}
     GROUP BY account_id
), free AS MATERIALIZED (
    SELECT a.id, a.provider_id, a.owner_id, a.label
      FROM accounts_account a LEFT JOIN recently r ON r.account_id = a.id
     WHERE a.enabled AND a.out_of_rotation_at IS NULL AND a.exhausted_at IS NULL
       AND (a.balance IS NULL OR a.balance >= a.balance_floor)
       AND (a.cooldown_until IS NULL OR a.cooldown_until < now() - {DUE_LATE})
       AND a.created_at < now() - {DUE_LATE}
       AND (a.daily_cap IS NULL OR date_trunc('day', now(), 'UTC') < now() - {DUE_LATE} AND a.daily_cap > (
             SELECT count(*) FROM generations_submission s
              WHERE s.account_id = a.id AND (s.sent_at >= date_trunc('day', now(), 'UTC') OR s.state = 'reserved')))
       AND a.limit > coalesce(r.freed, 0) + (SELECT count(*) FROM generations_submission s
                                              WHERE s.account_id = a.id AND s.state IN {_in(HOLDS_SLOT)})
), full_users AS MATERIALIZED (
    SELECT c.user_id FROM accounts_usercap c
     WHERE c.max_in_flight <= (SELECT count(*) FROM generations_generation f
                                WHERE f.user_id = c.user_id AND (f.status = 'processing'
                                      OR f.completed_at > now() - {DUE_LATE} AND f.started_at IS NOT NULL))
)
SELECT 'generation', g.id::text, 'is due, and ' || f.provider_id || '/' || f.label || ' has a free slot'
  FROM generations_generation g
  CROSS JOIN LATERAL (
    SELECT f.* FROM free f
     WHERE f.provider_id = g.provider_id AND (f.owner_id IS NULL OR f.owner_id = g.user_id)
       AND (g.account_id IS NULL OR g.account_id = f.id)
       AND NOT EXISTS (SELECT 1 FROM generations_accountexclusion e
                        WHERE e.generation_id = g.id AND e.account_id = f.id)
     LIMIT 1) f
  LEFT JOIN LATERAL (
    SELECT e.at + coalesce((e.data->>'delay')::float8, 0) * interval '1 second' AS at
      FROM generations_event e WHERE e.generation_id = g.id ORDER BY e.id DESC LIMIT 1) last ON TRUE
 WHERE g.status = 'pending' AND g.created_at < now() - {DUE_LATE}
   AND (g.not_before IS NULL OR g.not_before < now() - {DUE_LATE})
   AND coalesce(g.scheduled_at, g.created_at) < now() - {DUE_LATE}
   AND coalesce(last.at, g.created_at) < now() - {DUE_LATE}
   AND g.user_id NOT IN (SELECT user_id FROM full_users)
   AND NOT EXISTS (SELECT 1 FROM generations_heldback h
                    WHERE h.ended_at IS NULL OR h.ended_at > now() - {DUE_LATE})
   AND NOT EXISTS (
         SELECT 1
           FROM (SELECT key FROM generations_switch
                  UNION ALL
                 SELECT key FROM generations_switchchange WHERE NOT turned_on AND at > now() - {DUE_LATE}) AS pause
          WHERE pause.key IN ('dispatch', 'dispatch:provider:' || g.provider_id,
                              'dispatch:operation:' || g.operation_type))
"""

TRIGGERS = """
SELECT 'trigger', wanted.name, 'is missing or switched off on ' || wanted.place
  FROM (VALUES ('generation_terminal', 'generations_generation'),
               ('submission_terminal', 'generations_submission')) AS wanted(name, place)
 WHERE NOT EXISTS (SELECT 1 FROM pg_trigger t
                    WHERE t.tgname = wanted.name AND t.tgrelid = wanted.place::regclass
                      AND t.tgenabled IN ('O', 'A') AND NOT t.tgisinternal)
"""

END_AND_TIME = f"""
SELECT 'submission', id::text, 'is ' || state || ' and ended at ' || coalesce(ended_at::text, 'no time')
  FROM generations_submission WHERE (state IN {_in(TERMINAL)}) <> (ended_at IS NOT NULL)
UNION ALL
SELECT 'generation', id::text, 'is ' || status || ' and ended at ' || coalesce(completed_at::text, 'no time')
  FROM generations_generation WHERE (status IN {_in(ENDED)}) <> (completed_at IS NOT NULL)
"""

INVARIANTS = (
    Invariant("I1", "An attempt number is used once per generation", ATTEMPT_TWICE),
    Invariant("I2", "At most one attempt per generation may be billed", TWO_BILLABLE),
    Invariant("I2", "An open attempt belongs to a processing generation, or is abandoned", OPEN_BESIDE_STATUS),
    Invariant("I3", "One live or completed generation answers a request", CLAIM_SHARED),
    Invariant("I3", "A claim is given up when nothing can come of it any more", CLAIM_KEPT),
    Invariant("I4", "A slot is between 1 and the limit it was claimed under", SLOT_RANGE),
    Invariant("I4", "A slot is held by one attempt", SLOT_SHARED),
    Invariant("I5", "A wallet is the sum of its ledger, never below zero", WALLET_SUM),
    Invariant("I6", "A hold is captured once if completed, released once if not", MONEY),
    Invariant("I6", "A refund is an operator's, with its line in the timeline", REFUND_TOLD),
    Invariant("I7", "Nothing waits past its time in the queue", PAST_QUEUE, needs_services=True),
    Invariant("I7", "Nothing runs past its deadline, cancel or collection", PAST_DEADLINE, needs_services=True),
    Invariant("I8", "A completed generation has a stored, verified output", COMPLETED_EMPTY),
    Invariant("I8", "Only a completed generation has a captured result", CAPTURED_NOT_COMPLETED),
    Invariant("I8", "What has expired answers no request", EXPIRED_ANSWERS),
    Invariant("I9", "A provider's job belongs to one attempt", JOB_SHARED),
    Invariant("I10", "An accepted attempt has a job id; a reserved one was never sent", JOB_AND_STATE),
    Invariant("I11", "A batch has each of its items once", KEY_TWICE),
    Invariant("I11", "A batch's items are answered by its user's own", ITEM_STRANGE),
    Invariant("I11", "A batch is closed when all of it has ended", CLOSED_TOO_EARLY),
    Invariant("I11", "What is over is closed", NOT_CLOSED, needs_services=True),
    Invariant("I11", "What a closed batch wants exported is exported, or waits for it", EXPORT_MISSING),
    Invariant("I12", "Every end has its event, and nothing else has one", END_EVENT),
    Invariant("I12", "Nothing ends twice", END_EVENT_TWICE),
    Invariant("I12", "Every endpoint that wants to know of an end is told", DELIVERY_MISSING),
    Invariant("I12", "No webhook that is due is left lying", DELIVERY_LEFT, needs_services=True),
    Invariant("I13", "Expired leases are recovered", LEASE_LOST, needs_services=True),
    Invariant("I13", "No export that is due is left lying", EXPORT_LEFT, needs_services=True),
    Invariant("I13", "Nothing due waits beside a free slot", DUE_LEFT, needs_services=True),
    Invariant("I14", "The database refuses to change an end", TRIGGERS),
    Invariant("I14", "What has ended says when, and nothing else does", END_AND_TIME),
)
