"""What the OpenAPI schema says of prompts, beside ``generations.api.docs``."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes

from generations.api.answers import GenerationPage
from generations.api.answers_prompts import (
    ComparisonAnswer,
    PromptAnswer,
    PromptPage,
    PromptVersionAnswer,
    PromptVersionPage,
)
from generations.api.docs import CURSOR, LIMIT, WRITES, describes, parameter
from generations.api.requests_prompts import PromptRequest

list_prompts = describes(
    "prompts_list",
    "Your prompts, newest first",
    {200: (PromptPage, "A page, each with its newest version.")},
    tag="prompts",
    parameters=[parameter("name", "Only the one of this name."), LIMIT, CURSOR],
)
create_prompt = describes(
    "prompts_create",
    "Find a text's version, or make it",
    {201: (PromptVersionAnswer, "The next version of its prompt."), 200: (PromptVersionAnswer, "It was there.")},
    tag="prompts",
    description=(
        "The same text in the same prompt is the same version, also when it is sent twice at once. A version never "
        "changes; another text is the next version."
    ),
    problems=WRITES,
    request=PromptRequest,
)
get_prompt = describes(
    "prompts_get", "One prompt", {200: (PromptAnswer, "With its newest version.")}, tag="prompts", problems=(404,)
)
list_prompt_versions = describes(
    "prompts_versions",
    "A prompt's versions, newest first",
    {200: (PromptVersionPage, "A page.")},
    tag="prompts",
    problems=(404,),
    parameters=[LIMIT, CURSOR],
)
get_prompt_version = describes(
    "prompts_version_get", "One version", {200: (PromptVersionAnswer, "As it is.")}, tag="prompts", problems=(404,)
)
list_prompt_results = describes(
    "prompts_version_generations",
    "The generations of a version, newest first",
    {200: (GenerationPage, "A page.")},
    tag="prompts",
    problems=(404,),
    parameters=[LIMIT, CURSOR],
)
compare_prompt_versions = describes(
    "prompts_compare",
    "Two versions side by side",
    {200: (ComparisonAnswer, "Both texts, what differs, and what they led to.")},
    tag="prompts",
    problems=(404,),
    parameters=[
        parameter("a", "A version's id.", kind=OpenApiTypes.UUID),
        parameter("b", "Another's.", kind=OpenApiTypes.UUID),
    ],
)
