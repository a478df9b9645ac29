"""What the OpenAPI schema says of the library, beside ``generations.api.docs``."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiRequest

from generations.api.answers_library import LibraryItemAnswer, LibraryPage, UploadAnswer
from generations.api.docs import CURSOR, LIMIT, WRITES, describes, parameter
from generations.api.requests_library import LibraryItemChange, LibraryItemRequest

list_library = describes(
    "library_list",
    "Your items and the shared ones, newest first",
    {200: (LibraryPage, "A page.")},
    tag="library",
    parameters=[
        parameter("q", "Words, or their beginnings, of name, category, prompt and tags; all of them."),
        parameter("category", "Only of this category."),
        parameter("tag", "Only with this tag; repeat it for several, all of which it must have."),
        parameter("owner", "Only yours, or only shared ones.", values=["mine", "shared"]),
        parameter("favourite", "`true`: only your favourites.", values=["true"]),
        LIMIT,
        CURSOR,
    ],
)
create_library_item = describes(
    "library_create",
    "Keep an item",
    {201: (LibraryItemAnswer, "Kept.")},
    tag="library",
    problems=(*WRITES, 404),
    request=LibraryItemRequest,
)
upload_library = describes(
    "library_upload",
    "Upload several pictures, an item of each",
    {201: (UploadAnswer, "What became of each; some may have failed. 400: all of them have.")},
    tag="library",
    description="Pictures are judged by their bytes. Each item is named as its file is.",
    problems=(*WRITES, 409),
    request={
        "multipart/form-data": OpenApiRequest(
            {
                "type": "object",
                "properties": {
                    "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "category": {"type": "string"},
                    "tags": {"type": "string", "description": "With commas between them, or repeated."},
                },
                "required": ["files", "category"],
                "additionalProperties": False,
            }
        )
    },
)
get_library_item = describes(
    "library_get", "One item", {200: (LibraryItemAnswer, "As it is.")}, tag="library", problems=(404,)
)
change_library_item = describes(
    "library_change",
    "Change an item of yours",
    {200: (LibraryItemAnswer, "As it is now.")},
    tag="library",
    description="What is left out stays as it is. Batches that used it stay as they are.",
    problems=(*WRITES, 403, 404),
    request=LibraryItemChange,
)
remove_library_item = describes(
    "library_remove",
    "Delete an item of yours",
    {204: (None, "It is gone. Batches that used it stay, and so does its picture among your assets.")},
    tag="library",
    problems=(403, 404),
)
like_library_item = describes(
    "library_like", "Make it a favourite", {200: (LibraryItemAnswer, "It is.")}, tag="library", problems=(*WRITES, 404)
)
unlike_library_item = describes(
    "library_unlike", "Make it no favourite", {200: (LibraryItemAnswer, "It is none.")}, tag="library", problems=(404,)
)
download_library_item = describes(
    "library_download",
    "The picture's bytes, counted as a download",
    {302: (None, "A signed link to them.")},
    tag="library",
    problems=(404,),
)
