"""What the OpenAPI schema says of chapters and scenes."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample

from generations.api.answers_batches import BatchAnswer
from generations.api.answers_chapters import ChapterPage, SceneImagePage, ScenePage, SceneQueuedAnswer
from generations.api.docs import CURSOR, KEY, LIMIT, WRITES, describes
from generations.api.requests_chapters import (
    ChapterChange,
    ChapterRequest,
    ChooseRequest,
    MissingRequest,
    SceneImageRequest,
    SceneRequest,
)
from generations.reports.scene_answers import ChapterAnswer, SceneAnswer, SceneImageAnswer

TAG = "chapters"
FIRST_SCENE = OpenApiExample(
    "A scene's picture",
    value={
        "scene_description": "A lighthouse in a storm at night",
        "style": "cinematic",
        "aspect_ratio": "16:9",
        "script_id": "script-7",
    },
    request_only=True,
)

list_chapters = describes(
    "chapters_list",
    "Your chapters and those shared with you, newest first",
    {200: (ChapterPage, "A page.")},
    tag=TAG,
    parameters=[LIMIT, CURSOR],
)
create_chapter = describes(
    "chapters_create",
    "Make a chapter",
    {201: (ChapterAnswer, "It is there, and yours.")},
    tag=TAG,
    problems=WRITES,
    request=ChapterRequest,
)
get_chapter = describes("chapters_get", "One chapter", {200: (ChapterAnswer, "As it is.")}, tag=TAG, problems=(404,))
change_chapter = describes(
    "chapters_change",
    "Rename a chapter, or share it with others",
    {200: (ChapterAnswer, "As it is now.")},
    tag=TAG,
    problems=(*WRITES, 403, 404),
    request=ChapterChange,
)
delete_chapter = describes(
    "chapters_delete",
    "Delete a chapter with its scenes",
    {204: (None, "It is gone. The pictures stay with those who asked for them.")},
    tag=TAG,
    problems=(403, 404),
)
list_scenes = describes(
    "scenes_list",
    "A chapter's scenes with their pictures, by number",
    {200: (ScenePage, "A page.")},
    tag=TAG,
    problems=(404,),
    parameters=[LIMIT, CURSOR],
)
get_scene = describes("scenes_get", "One scene", {200: (SceneAnswer, "As it is.")}, tag=TAG, problems=(404,))
write_scene = describes(
    "scenes_write",
    "Say what is to be seen in a scene",
    {200: (SceneAnswer, "As it is now; it is made where it was not there.")},
    tag=TAG,
    problems=(*WRITES, 403, 404),
    request=SceneRequest,
)
delete_scene = describes(
    "scenes_delete",
    "Delete a scene",
    {204: (None, "It is gone. The pictures stay with those who asked for them.")},
    tag=TAG,
    problems=(403, 404),
)
list_images = describes(
    "scene_images_list",
    "All takes of a chapter, latest first",
    {200: (SceneImagePage, "A page.")},
    tag=TAG,
    problems=(404,),
    parameters=[LIMIT, CURSOR],
)
list_takes = describes(
    "scene_takes_list",
    "The takes of a scene, latest first",
    {200: (SceneImagePage, "A page.")},
    tag=TAG,
    problems=(404,),
    parameters=[LIMIT, CURSOR],
)
create_take = describes(
    "scene_images_create",
    "Ask for a picture of a scene",
    {202: (SceneQueuedAnswer, "Accepted, or being made already (`reused`).")},
    tag=TAG,
    description=(
        "Answers at once. The same request while its take is live, from whoever has access, is answered with that "
        "take; after its end it makes a new one. Whoever asks pays. The scene is made by its first request."
    ),
    problems=(*WRITES, 402, 403, 404, 409, 422),
    request=SceneImageRequest,
    parameters=[KEY],
    examples=[FIRST_SCENE],
)
generate_missing = describes(
    "scene_images_generate_missing",
    "Ask for a picture of every scene that has none",
    {202: (BatchAnswer, "Accepted, all of them: a batch of yours.")},
    tag=TAG,
    description=(
        "Of every scene that has a description and neither a completed take nor a live one; its item is "
        "`scene-<number>-v0`. All or none: 402 when your credits do not suffice for all, 409 `nothing_missing`."
    ),
    problems=(*WRITES, 402, 403, 404, 409, 422),
    request=MissingRequest,
    parameters=[KEY],
)
get_status = describes(
    "scene_images_status",
    "How far a scene's latest take is",
    {200: (SceneImageAnswer, "The take that is current.")},
    tag=TAG,
    problems=(404,),
)
get_image = describes(
    "scene_images_get", "One take", {200: (SceneImageAnswer, "How far it is.")}, tag=TAG, problems=(404,)
)
leave_image = describes(
    "scene_images_delete",
    "Take a take out of its scene",
    {204: (None, "It is no take of it any more. The picture stays with whoever asked for it.")},
    tag=TAG,
    problems=(403, 404, 409),
)
choose_image = describes(
    "scene_images_choose",
    "Show this take as the scene's picture",
    {200: (SceneImageAnswer, "It is shown.")},
    tag=TAG,
    problems=(*WRITES, 403, 404, 409),
    request=ChooseRequest,
)
