"""What the OpenAPI schema says about batches."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample

from generations.api.answers_batches import (
    BatchAnswer,
    BatchItemPage,
    BatchPage,
    BatchQuoteAnswer,
    BatchRetryAnswer,
)
from generations.api.docs import CURSOR, KEY, LIMIT, describes, parameter
from generations.api.requests_batches import InsistRequest, NewBatch
from generations.lifecycle import Status
from generations.reports.answers import GenerationAnswer

TAG = "batches"
FOUR_OF_A_TEXT = OpenApiExample(
    "Four pictures of one text",
    value={
        "mode": "text",
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a lighthouse in a storm, oil on canvas"},
        "variations": 4,
    },
    request_only=True,
)
POSES = OpenApiExample(
    "Two poses, three pictures of each",
    value={
        "mode": "gallery",
        "provider_id": "modelslab",
        "operation_type": "text_to_image",
        "params": {"prompt": "a dancer in red, {prompt}, studio light"},
        "items": [{"library_item": 12, "variations": 3}, {"library_item": 17, "variations": 3}],
    },
    request_only=True,
)

list_batches = describes(
    "batches_list",
    "Your batches, newest first",
    {200: (BatchPage, "A page.")},
    tag=TAG,
    parameters=[LIMIT, CURSOR],
)
create_batch = describes(
    "batches_create",
    "Ask for many generations together",
    {202: (BatchAnswer, "Accepted, all of it.")},
    tag=TAG,
    description=(
        "All items are accepted in one commit, with the hold for all of them, or none is. Items that were made before "
        "are reused as single generations are, and not paid for; `POST /batches/quote` says how many."
    ),
    problems=(402, 404, 409, 413, 415, 422),
    request=NewBatch,
    parameters=[KEY],
    examples=[FOUR_OF_A_TEXT, POSES],
)
quote_batch = describes(
    "batches_quote",
    "What a batch would cost and do",
    {200: (BatchQuoteAnswer, "Nothing is kept.")},
    tag=TAG,
    problems=(404, 413, 415),
    request=NewBatch,
    examples=[FOUR_OF_A_TEXT, POSES],
)
get_batch = describes(
    "batches_retrieve", "How far a batch is", {200: (BatchAnswer, "The batch.")}, tag=TAG, problems=(404,)
)
list_items = describes(
    "batches_items",
    "A batch's items, in their order",
    {200: (BatchItemPage, "A page.")},
    tag=TAG,
    problems=(404,),
    parameters=[parameter("status", "One or several.", values=list(Status.values)), LIMIT, CURSOR],
)
cancel_batch = describes(
    "batches_cancel",
    "Cancel what of a batch has not ended",
    {
        200: (BatchAnswer, "All of it has ended."),
        202: (BatchAnswer, "Some is at the provider still; it is asked to stop."),
    },
    tag=TAG,
    description=(
        "What waits is cancelled at once, what is at the provider after a grace in which a result still wins. A "
        "generation that somebody has asked for by itself, or that another batch wants, goes on."
    ),
    problems=(404, 409),
)
pause_batch = describes(
    "batches_pause",
    "Send nothing more of a batch until it is resumed",
    {200: (BatchAnswer, "It is paused; what is at the provider goes on.")},
    tag=TAG,
    problems=(404, 409),
)
resume_batch = describes(
    "batches_resume", "Let a batch go on", {200: (BatchAnswer, "It is not paused.")}, tag=TAG, problems=(404,)
)
retry_batch = describes(
    "batches_retry",
    "Make what failed anew",
    {202: (BatchRetryAnswer, "In one commit, with the hold for all of them; what completed is not touched.")},
    tag=TAG,
    problems=(402, 404, 409, 413, 415),
    request=InsistRequest,
)
regenerate_item = describes(
    "batches_regenerate",
    "Make one item anew",
    {202: (GenerationAnswer, "The new generation, at today's price; the one before is kept.")},
    tag=TAG,
    problems=(402, 404, 409, 413, 415),
    request=InsistRequest,
)
