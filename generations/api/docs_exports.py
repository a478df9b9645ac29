"""What the OpenAPI schema says about exports."""

from __future__ import annotations

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from generations.api.answers_exports import ExportAnswer, ExportFormatList, ExportList, ExportPage
from generations.api.docs import CURSOR, LIMIT, WRITES, describes, parameter
from generations.api.requests_exports import NewExports
from generations.formats import FORMATS
from generations.models import Export

TAG = "exports"

list_formats = describes(
    "exports_formats",
    "The formats that outputs can be exported in",
    {200: (ExportFormatList, "All of them.")},
    tag=TAG,
)
list_exports = describes(
    "exports_list",
    "Your exports, newest first",
    {200: (ExportPage, "A page.")},
    tag=TAG,
    parameters=[
        parameter("asset", "Only of this output.", kind=OpenApiTypes.UUID),
        parameter("generation", "Only of this generation's outputs.", kind=OpenApiTypes.UUID),
        parameter("batch", "Only of the outputs that answer this batch's items.", kind=OpenApiTypes.UUID),
        parameter("format", "One or several.", values=list(FORMATS)),
        parameter("state", "One or several.", values=Export.State.values),
        LIMIT,
        CURSOR,
    ],
)
create_exports = describes(
    "exports_create",
    "Ask for outputs in other formats",
    {202: (ExportList, "They are made by and by; look at them until they are `done`.")},
    tag=TAG,
    description=(
        "Each output in each format is made once, however often it is asked for; one that failed is tried again. "
        "Pictures become JPEGs, videos MP4s with a poster. It costs no credits."
    ),
    problems=(*WRITES, 404, 409),
    request=NewExports,
)
get_export = describes("exports_get", "One export", {200: (ExportAnswer, "How far it is.")}, tag=TAG, problems=(404,))
regenerate_export = describes(
    "exports_regenerate",
    "Make an export anew",
    {202: (ExportAnswer, "It is made again; until then it gives what it gave.")},
    tag=TAG,
    problems=(*WRITES, 404, 409),
)
download_batch = describes(
    "batches_zip",
    "Everything that a batch has made, as a ZIP",
    {(200, "application/zip"): (OpenApiTypes.BINARY, "The ZIP, of known length.")},
    tag="batches",
    description=(
        "`<the batch's name>/<variation_key>_<format>.<extension>`. What is wanted and not there (it failed, or is "
        "being made) is named in `missing.txt`."
    ),
    problems=(404, 409),
    parameters=[
        OpenApiParameter(
            "formats",
            str,
            description="One or several, `original` among them; left out: what the batch was asked for, or originals.",
            enum=list(FORMATS),
            many=True,
        )
    ],
)
