"""What can be configured about processors."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ProcessingSettings(BaseModel):
    """Settings of the processing hosts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    late_ms: int = Field(default=60, ge=20, le=1000, description="a packet that waited longer is only decoded")
    denoise_model: Literal["rnnoise", "gtcrn"] = Field(
        default="rnnoise",
        description="rnnoise: built in, full band; gtcrn: better in noise, up to 8 kHz, 14 ms more delay; `make models` pulls it",
    )
    video_transforms: list[str] = Field(
        default=[],
        description="what may change pictures here, e.g. video_enhancement; without any there is no video host (but for a "
        "policy that wants watermarks)",
    )
    watermark_text: str = Field(
        default="Authenticity of this picture not confirmed",
        min_length=1,
        max_length=80,
        pattern=r"^[!-~][ -~]*$",
        description="what is drawn into a picture that carries an alert: printable ASCII, for the font has nothing else",
    )
    captions_model: str = Field(
        default="auto",
        description="a speech_to_text model of the catalog; auto: Whisper if it is here, else PocketSphinx",
    )
    captions_language: str = Field(
        default="auto", description="ISO 639-1 code of what is spoken; auto: the model tells, if it knows several"
    )
