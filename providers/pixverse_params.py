"""What Pixverse can be asked for: one params model per operation (shared note wire/pixverse.md, section 3).

Rules are checked here only where the note is sure of them; the rest is Pixverse's to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from providers.errors import InvalidParams
from providers.params import Params, Text, Whole

Model = Literal["v3.5", "v4", "v4.5", "v5", "v5.5", "v5.6", "v6", "c1"]

FREE_LENGTH = ("v6", "c1")
"""Models that take any whole number of seconds up to 15, longer prompts and more aspect ratios."""
OLDER = ("v3.5", "v4", "v4.5", "v5")
"""Models with styles and motion modes, without own audio."""
WITH_CAMERA = ("v4", "v4.5")
WIDE_RATIOS = ("2:3", "3:2", "21:9")
LONGEST_PROMPT = 2048


class Video(Params):
    """What every Pixverse operation takes."""

    prompt: Annotated[Text, StringConstraints(min_length=1, max_length=5000)] = Field(
        title="Prompt", description="What the video shows. Up to 2048 characters; 5000 with v6 and c1."
    )
    model: Model = Field(default="v5", title="Model", description="Version of Pixverse's video model.")
    duration: Whole = Field(
        default=5,
        ge=1,
        le=15,
        title="Duration",
        description="Seconds: 5 or 8 (10 from v5.5); any from 1 to 15 with v6 and c1.",
    )
    quality: Literal["360p", "540p", "720p", "1080p"] = Field(
        default="540p",
        title="Quality",
        description="Height of the video. Models up to v5.6 make no 8 seconds in 1080p.",
    )
    seed: Whole | None = Field(
        default=None,
        ge=0,
        le=2147483647,
        title="Seed",
        description="The same seed repeats a result; empty means random.",
    )

    @model_validator(mode="after")
    def _length_fits(self) -> Self:
        if self.model not in FREE_LENGTH:
            if len(self.prompt) > LONGEST_PROMPT:
                raise ValueError(f"prompt: model {self.model} takes at most {LONGEST_PROMPT} characters")
            lengths = (5, 8) if self.model in OLDER else (5, 8, 10)
            if self.duration not in lengths:
                raise ValueError(f"duration: model {self.model} makes {' or '.join(map(str, lengths))} seconds")
            if self.quality == "1080p" and self.duration == 8:
                raise ValueError("duration: 8 seconds are not possible in 1080p with this model; take 5, or 720p")
        return self

    def wire(self) -> dict[str, Any]:
        """The fields of the request body that are not inputs. What is at its default and optional is left out."""
        body: dict[str, Any] = {
            "prompt": self.prompt,
            "model": self.model,
            "duration": self.duration,
            "quality": self.quality,
        }
        optional = self.model_dump(exclude=set(body), exclude_defaults=True)
        return body | {name: value for name, value in optional.items() if name not in self.not_sent}

    not_sent: ClassVar[frozenset[str]] = frozenset()


class _Styled(Video):
    """What text, image and fusion take besides."""

    negative_prompt: Annotated[Text, StringConstraints(max_length=2048)] = Field(
        default="", title="Negative prompt", description="What the video must not show."
    )
    style: Literal["anime", "3d_animation", "clay", "comic", "cyberpunk"] | None = Field(
        default=None, title="Style", description="A fixed style. Models up to v5 only."
    )
    motion_mode: Literal["normal", "fast"] = Field(
        default="normal", title="Motion", description="Fast: 5 seconds, below 1080p, models up to v5 only."
    )
    camera_movement: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}$")] | None = Field(
        default=None, title="Camera movement", description="For example zoom_in or zoom_out. Models v4 and v4.5 only."
    )
    template_id: Whole | None = Field(
        default=None,
        ge=1,
        le=2**63 - 1,
        title="Effect template",
        description="Number of an effect template of Pixverse.",
    )
    water_mark: bool = Field(default=False, title="Watermark", description="Put Pixverse's watermark on the video.")
    sound_effect_switch: bool = Field(
        default=False, title="Sound effect", description="Add a sound effect. Models up to v5 only."
    )
    sound_effect_content: Annotated[Text, StringConstraints(max_length=2048)] = Field(
        default="", title="Sound effect's content", description="What is heard; empty lets Pixverse choose."
    )
    generate_audio_switch: bool = Field(default=False, title="Audio", description="Make audio too. From v5.5.")
    generate_multi_clip_switch: bool = Field(default=False, title="Several shots", description="From v5.5.")
    thinking_type: Literal["enabled", "disabled", "auto"] | None = Field(
        default=None, title="Prompt reasoning", description="Whether Pixverse may rework the prompt first."
    )

    @model_validator(mode="after")
    def _options_fit(self) -> Self:
        if self.motion_mode == "fast" and (self.duration != 5 or self.quality == "1080p"):
            raise ValueError("motion_mode: fast is possible for 5 seconds below 1080p only")
        if self.model not in OLDER and (self.style or self.motion_mode != "normal" or self.sound_effect_switch):
            raise ValueError(f"model: {self.model} takes no style, motion_mode or sound_effect_switch")
        if self.model in OLDER and (self.generate_audio_switch or self.generate_multi_clip_switch):
            raise ValueError(f"model: {self.model} makes no audio and no several shots; take v5.5 or newer")
        if self.camera_movement and self.model not in WITH_CAMERA:
            raise ValueError("camera_movement: possible with v4 and v4.5 only")
        if self.sound_effect_content and not self.sound_effect_switch:
            raise ValueError("sound_effect_content: needs sound_effect_switch")
        return self


class _Shaped(Video):
    """Operations that choose the shape of the picture (the others take their input's)."""

    aspect_ratio: Literal["16:9", "4:3", "1:1", "3:4", "9:16", "2:3", "3:2", "21:9"] = Field(
        default="16:9", title="Aspect ratio", description="Width to height. 2:3, 3:2 and 21:9 with v6 and c1 only."
    )

    @model_validator(mode="after")
    def _shape_fits(self) -> Self:
        if self.aspect_ratio in WIDE_RATIOS and self.model not in FREE_LENGTH:
            raise ValueError(f"aspect_ratio: {self.aspect_ratio} is possible with v6 and c1 only")
        return self

    def wire(self) -> dict[str, Any]:
        return super().wire() | {"aspect_ratio": self.aspect_ratio}


class TextToVideo(_Styled, _Shaped):
    """A video from a text."""


class ImageToVideo(_Styled):
    """A video that begins with a picture and has its shape."""

    input_roles = {"image": (1, 1)}
    accepted_media = {"image": ("image",)}


class VideoTransition(Video):
    """A video that leads from a first picture to a last one."""

    input_roles = {"first_frame": (1, 1), "last_frame": (1, 1)}
    accepted_media = {"first_frame": ("image",), "last_frame": ("image",)}

    motion_mode: Literal["normal", "fast"] = Field(
        default="normal", title="Motion", description="Fast: 5 seconds, below 1080p, models up to v5 only."
    )

    @model_validator(mode="after")
    def _motion_fits(self) -> Self:
        if self.motion_mode == "fast" and (self.duration != 5 or self.quality == "1080p" or self.model not in OLDER):
            raise ValueError("motion_mode: fast is possible for 5 seconds, below 1080p, with models up to v5")
        return self


class VideoExtend(Video):
    """A video that goes on where another ends."""

    input_roles = {"video": (1, 1)}
    accepted_media = {"video": ("video",)}


class Reference(BaseModel):
    """What one picture of a fusion is, and the name by which the prompt speaks of it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,30}$")] = Field(
        title="Name", description="Letters and digits; the prompt says @name."
    )
    type: Literal["subject", "background"] = Field(default="subject", title="Kind")


_MENTION = re.compile(r"@([A-Za-z0-9]{1,30})")


class Fusion(_Shaped):
    """A video of the people, things and places in some pictures."""

    input_roles = {"image": (1, 10)}
    accepted_media = {"image": ("image",)}
    not_sent = frozenset({"references"})

    references: list[Reference] = Field(
        default_factory=list,
        max_length=10,
        title="References",
        description="One for each picture, in their order. Left out: all are subjects, named image1, image2, ...",
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        names = [reference.name for reference in self.references]
        if len(set(names)) < len(names):
            raise ValueError("references: two have the same name")
        if names and (unknown := set(_MENTION.findall(self.prompt)) - set(names)):
            raise ValueError(f"prompt: @{min(unknown)} is not among the references")
        return self

    def check_inputs(self, counts: Mapping[str, int]) -> None:
        super().check_inputs(counts)
        given = counts["image"]
        most = 10 if self.model in FREE_LENGTH else 3 if self.model in OLDER else 7
        if given > most:
            raise InvalidParams(f"Model {self.model} fuses at most {most} pictures, not {given}.", field="inputs")
        if self.references and len(self.references) != given:
            raise InvalidParams(
                f"There are {given} pictures and {len(self.references)} references; give one for each, or none.",
                field="references",
            )

    def named(self, index: int) -> Reference:
        """The reference for the picture with this index (from 0)."""
        return self.references[index] if self.references else Reference(name=f"image{index + 1}")
