"""What can be configured about processors."""

from pydantic import BaseModel, ConfigDict, Field


class ProcessingSettings(BaseModel):
    """Settings of the processing hosts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    late_ms: int = Field(default=60, ge=20, le=1000, description="a packet that waited longer is only decoded")
