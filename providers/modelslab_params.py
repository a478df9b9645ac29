"""What ModelsLab can be asked for: one params model per operation (shared note wire/modelslab.md, section 3).

ModelsLab has many models, in families that take different fields. A field left out gets its family's
default; a field that the family does not take is refused, not silently dropped. Which endpoint serves:

* **v6 images** (``text2img``, ``img2img``) for community models such as ``flux``: the documented place
  for steps, guidance, samples and seeds.
* **v7 images** for the partner models that exist only there (``seedream-4``, ``imagen-4``, ...).
* **v6 video** for ``cogvideox`` and ``wanx``, **v6 video "ultra"** for ``wan2.2`` and ``ltx-2.3``.
* **v7 video-fusion** for every other video model.

``api`` overrides the choice for a model that the table does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from providers.errors import InvalidParams
from providers.params import Number, Params, Prompt, Text, Whole

ModelId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/-]{0,99}$")]
Ratio = Literal["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "21:9"]
Family = Mapping[str, Any]
"""Optional field -> the family's default; None: not sent, the model decides."""

_V6_PICTURES: Family = {
    "negative_prompt": None,
    "width": 512,
    "height": 512,
    "samples": 1,
    "num_inference_steps": 31,
    "guidance_scale": 7.5,
    "seed": None,
    "safety_checker": True,
    "enhance_prompt": None,
    "use_karras_sigmas": None,
    "upscale": None,
    "scheduler": None,
    "vae": None,
    "lora_model": None,
    "lora_strength": None,
    "clip_skip": None,
}
_V7_PICTURES: dict[str, Family] = {
    "nano-banana-t2i": {},
    "seedream-t2i": {"width": None, "height": None},
    "seedream-4": {"aspect_ratio": None},
    "imagen-4": {"aspect_ratio": None},
    "gen4_image": {"aspect_ratio": None},
}
_V7_OTHER_PICTURES: Family = {"negative_prompt": None, "aspect_ratio": None, "enhance_prompt": None}
_V6_VIDEOS: Family = {
    "negative_prompt": None,
    "width": 512,
    "height": 512,
    "num_frames": 25,
    "num_inference_steps": 20,
    "guidance_scale": 7.0,
    "fps": None,
}
_V6_ULTRA: Family = {"negative_prompt": None, "resolution": None, "num_frames": 81, "portrait": None}
_V7_VIDEOS: Family = {
    "negative_prompt": None,
    "duration": 5,
    "aspect_ratio": None,
    "resolution": None,
    "generate_audio": None,
    "enhance_prompt": None,
}
_AS_TEXT_IN_V7 = ("width", "height", "duration")


class Wanted(Params):
    """Params whose optional fields depend on the model's family."""

    prompt: Prompt = Field(title="Prompt", description="What is to be seen.")
    negative_prompt: Annotated[Text, StringConstraints(min_length=1, max_length=2048)] | None = Field(
        default=None, title="Negative prompt", description="What must not be seen."
    )
    api: Literal["auto", "v6", "v7"] = Field(
        default="auto",
        title="API version",
        description="Auto knows the common models; choose for one that it does not.",
    )

    always: ClassVar[frozenset[str]] = frozenset({"prompt", "model_id", "api"})

    def route(self) -> tuple[str, str, Family]:
        """(path of the endpoint, path of the status call without the id, family) for this model."""
        raise NotImplementedError

    def in_its_words(self, family: Family) -> None:
        """Say in the family's fields what was said in others that mean the same.

        Raises:
            ValueError: it was said in both.
        """

    @model_validator(mode="after")
    def _fits_its_family(self) -> Self:
        family = self.route()[2]
        self.in_its_words(family)
        for name in type(self).model_fields.keys() - self.always:
            if getattr(self, name) is not None:
                if name not in family:
                    raise ValueError(f"{name}: this model takes none; leave it out")
            elif family.get(name) is not None:
                # Frozen, but not yet in anybody's hands. A default left out and a default given are the same request.
                self.__dict__[name] = family[name]
        return self

    def wire(self) -> dict[str, Any]:
        """The fields of the request body but for the key, the inputs and the callback."""
        path, _, family = self.route()
        dumped = self.model_dump(mode="json", exclude_none=True)
        body = {name: value for name, value in dumped.items() if name in family or name in ("prompt", "model_id")}
        if path.startswith("/v7/"):
            body |= {name: str(body[name]) for name in _AS_TEXT_IN_V7 if name in body}
        return body


class _Picture(Wanted):
    model_id: ModelId = Field(default="flux", title="Model", description="A model id of ModelsLab's, for example flux.")
    width: Whole | None = Field(
        default=None,
        ge=256,
        le=2048,
        multiple_of=8,
        title="Width",
        description="Pixels, a multiple of 8; 512 if left out.",
    )
    height: Whole | None = Field(
        default=None,
        ge=256,
        le=2048,
        multiple_of=8,
        title="Height",
        description="Pixels, a multiple of 8; 512 if left out.",
    )
    aspect_ratio: Ratio | None = Field(
        default=None,
        title="Aspect ratio",
        description="Instead of width and height: where a model takes only these, the longer side is 1024 pixels.",
    )
    samples: Whole | None = Field(default=None, ge=1, le=4, title="Pictures", description="How many; 1 if left out.")
    num_inference_steps: Whole | None = Field(default=None, ge=1, le=100, title="Steps", description="31 if left out.")
    guidance_scale: Number | None = Field(
        default=None,
        ge=1,
        le=20,
        title="Guidance",
        description="How closely to follow the prompt, 1 to 20; 7.5 if left out.",
    )
    seed: Whole | None = Field(default=None, ge=0, le=2147483647, title="Seed", description="Empty means random.")
    safety_checker: bool | None = Field(
        default=None,
        title="Safety checker",
        description="On unless switched off (v6): a picture that it flags is treated as moderated.",
    )
    enhance_prompt: bool | None = Field(default=None, title="Enhance the prompt")
    use_karras_sigmas: bool | None = Field(default=None, title="Karras sigmas")
    upscale: bool | None = Field(default=None, title="Upscale")
    scheduler: Word | None = Field(default=None, title="Scheduler")
    vae: Word | None = Field(default=None, title="VAE")
    lora_model: Word | None = Field(default=None, title="LoRA model")
    lora_strength: Number | None = Field(default=None, ge=0, le=2, title="LoRA strength")
    clip_skip: Whole | None = Field(default=None, ge=1, le=12, title="Clip skip")

    v6_path: ClassVar[str]
    v7_path: ClassVar[str]
    v6_family: ClassVar[Family] = _V6_PICTURES
    v7_extra: ClassVar[Family] = {}

    def route(self) -> tuple[str, str, Family]:
        version = self.api if self.api != "auto" else "v7" if self.model_id in _V7_PICTURES else "v6"
        if version == "v6":
            return self.v6_path, "/v6/images/fetch", self.v6_family
        family = _V7_PICTURES.get(self.model_id, _V7_OTHER_PICTURES)
        return self.v7_path, "/v7/images/fetch", {**family, **self.v7_extra}

    def in_its_words(self, family: Family) -> None:
        """A ratio becomes a width and a height where the model takes these."""
        if self.aspect_ratio is None or "aspect_ratio" in family or "width" not in family:
            return
        if self.width is not None or self.height is not None:
            raise ValueError("aspect_ratio: leave it out, or else width and height")
        width, height = _size_of(self.aspect_ratio)
        self.__dict__.update(width=width, height=height, aspect_ratio=None)

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if self.route()[0] == self.v6_path and max(self.width or 0, self.height or 0) > 1024:
            raise ValueError("width: this model makes pictures of 256 to 1024 pixels a side")
        return self

    @property
    def output_count(self) -> int:
        return self.samples or 1


def _size_of(ratio: str) -> tuple[int, int]:
    """Pixels: the longer side is 1024, the shorter one a multiple of 8 as near to the ratio as there is."""
    width, height = map(int, ratio.split(":"))
    longer = max(width, height)
    return round(128 * width / longer) * 8, round(128 * height / longer) * 8


class TextToImage(_Picture):
    """Pictures from a text."""

    v6_path = "/v6/images/text2img"
    v7_path = "/v7/images/text-to-image"


class ImageToImage(_Picture):
    """Pictures from a picture and a text. v7 models may take up to four."""

    input_roles = {"image": (1, 4)}
    accepted_media = {"image": ("image",)}
    v6_path = "/v6/images/img2img"
    v7_path = "/v7/images/image-to-image"
    v6_family = {**_V6_PICTURES, "strength": 0.7}

    strength: Number | None = Field(
        default=None,
        ge=0,
        le=1,
        title="Strength",
        description="How far to go from the picture, 0 to 1; 0.7 if left out (v6).",
    )

    def check_inputs(self, counts: Mapping[str, int]) -> None:
        super().check_inputs(counts)
        if counts["image"] > 1 and self.route()[0] == self.v6_path:
            raise InvalidParams("This model takes one picture.", field="inputs")


class TextToVideo(Wanted):
    """A video from a text."""

    model_id: ModelId = Field(
        default="wan2.2",
        title="Model",
        description="cogvideox, wanx, wan2.2, ltx-2.3, or a v7 model id of ModelsLab's.",
    )
    width: Whole | None = Field(
        default=None,
        ge=64,
        le=512,
        multiple_of=8,
        title="Width",
        description="Pixels up to 512; cogvideox and wanx only.",
    )
    height: Whole | None = Field(
        default=None,
        ge=64,
        le=512,
        multiple_of=8,
        title="Height",
        description="Pixels up to 512; cogvideox and wanx only.",
    )
    num_frames: Whole | None = Field(
        default=None,
        ge=1,
        le=250,
        title="Frames",
        description="25 (cogvideox, wanx) or 81 (wan2.2, ltx-2.3) if left out.",
    )
    num_inference_steps: Whole | None = Field(default=None, ge=1, le=100, title="Steps", description="cogvideox, wanx.")
    guidance_scale: Number | None = Field(default=None, ge=1, le=20, title="Guidance", description="cogvideox, wanx.")
    fps: Whole | None = Field(default=None, ge=1, le=60, title="Frames per second", description="cogvideox, wanx.")
    portrait: bool | None = Field(default=None, title="Portrait", description="Upright; wan2.2 and ltx-2.3 only.")
    resolution: Word | None = Field(
        default=None, title="Resolution", description="For example 720p; not for all models."
    )
    duration: Whole | None = Field(
        default=None,
        ge=1,
        le=20,
        title="Duration",
        description="Seconds, usually 5, 8 or 10; v7 models only, 5 if left out.",
    )
    aspect_ratio: Ratio | None = Field(default=None, title="Aspect ratio", description="v7 models only.")
    generate_audio: bool | None = Field(default=None, title="Audio", description="v7 models only.")
    enhance_prompt: bool | None = Field(default=None, title="Enhance the prompt", description="v7 models only.")

    v6_path: ClassVar[str] = "/v6/video/text2video"
    v7_path: ClassVar[str] = "/v7/video-fusion/text-to-video"

    def route(self) -> tuple[str, str, Family]:
        known = {"cogvideox": "v6", "wanx": "v6", "wan2.2": "ultra", "ltx-2.3": "ultra"}.get(self.model_id)
        if self.api == "v7" or (self.api == "auto" and known is None):
            return self.v7_path, "/v7/video-fusion/fetch", _V7_VIDEOS
        if known == "ultra":
            return f"{self.v6_path}_ultra", "/v6/video/fetch", _V6_ULTRA
        return self.v6_path, "/v6/video/fetch", _V6_VIDEOS


class ImageToVideo(TextToVideo):
    """A video that begins with a picture."""

    input_roles = {"image": (1, 1)}
    accepted_media = {"image": ("image",)}
    v6_path = "/v6/video/img2video"
    v7_path = "/v7/video-fusion/image-to-video"
