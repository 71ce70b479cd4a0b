"""One frozen `Settings`: arguments > `CANDOR_*` environment > TOML file > defaults; unknown keys are refused by name.

Environment: sections and fields are joined by two underscores, e.g. `CANDOR_SIGNALING__PORT=8080`; lists are JSON.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from media_processors.settings import ProcessingSettings
from models.service.settings import is_loopback
from models.settings import ModelSettings
from sfu.settings import SfuSettings
from signaling.cluster.settings import ClusterSettings
from signaling.settings import LOOPBACK_HOST, SignalingSettings

PREFIX = "CANDOR_"
DELIMITER = "__"


class ConfigurationError(Exception):
    """The configuration cannot be used; the message says which key and why."""


class OperatorSettings(BaseModel):
    """The port for who runs the server: metrics and health. It asks for no key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field(default=LOOPBACK_HOST, description="address to listen on; none that strangers reach")
    port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] = Field(default=9464, description="0: any free port")


class TelemetrySettings(BaseModel):
    """Where traces go. Without `endpoint` none are made; with it the extra `telemetry` is needed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(
        default=None, description="where spans are sent, OTLP over HTTP, e.g. http://127.0.0.1:4318/v1/traces"
    )
    trusted_network: bool = Field(default=False, description="let spans go to `endpoint` over plain http")
    frame_sample: float = Field(
        default=0.0002, ge=0, le=1, description="of the sound that goes through a transform: the share that is followed"
    )
    inference_sample: float = Field(
        default=0.01, ge=0, le=1, description="of the questions to models: the share of which a span is made"
    )

    @model_validator(mode="after")
    def _endpoint_is_safe(self) -> Self:
        if self.endpoint is None:
            return self
        parts = urlsplit(self.endpoint)
        plain = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
        if not plain or parts.query or parts.fragment:
            raise ValueError("endpoint: must be http(s)://host[:port]/path")
        if parts.scheme == "http" and not is_loopback(parts.hostname or "") and not self.trusted_network:
            raise ValueError("endpoint: https, or trusted_network if nobody else is on the way")
        return self


class Settings(BaseSettings):
    """Everything that can be configured; a section per package."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=DELIMITER, frozen=True, extra="forbid")

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    web_root: Path = Field(
        default=Path(__file__).parent.parent / "web" / "dist", description="the built browser client"
    )
    signaling: SignalingSettings = SignalingSettings()
    sfu: SfuSettings = SfuSettings()
    processing: ProcessingSettings = ProcessingSettings()
    models: ModelSettings = ModelSettings()
    operator: OperatorSettings = OperatorSettings()
    cluster: ClusterSettings = ClusterSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In the order of precedence. No .env files: what configures a server should be visible where it is started."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(path: Path | None = None, arguments: Mapping[str, Any] | None = None) -> Settings:
    """Read and merge all sources. Raises ConfigurationError."""
    known = set(_keys(Settings))
    for key in (*_environment_keys(os.environ), *_file_keys(path)):
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(f"unknown setting {key!r}{hint}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    try:
        return Settings.model_construct(**dict(FromFile(**dict(arguments or {}))))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except SettingsError as error:
        raise ConfigurationError(str(error)) from error


def model_settings(settings: Settings) -> ModelSettings:
    """The section `models`, with signaling's secret for its service where that has none of its own."""
    models = settings.models
    if models.service.secret is not None:
        return models
    service = models.service.model_copy(update={"secret": settings.signaling.secret})
    return models.model_copy(update={"service": service})


def dump(settings: Settings, *, secrets: bool, asks_models: bool = False) -> str:
    """Settings as one line of JSON for the pipe to a child; `secrets` in clear only for the one that needs them, signaling.

    `asks_models`: for a child that needs the key of the models' backend.
    """
    data = settings.model_dump(mode="json")
    data["models"].pop("service")  # no child of a node is the model service
    key = settings.models.backend_key if asks_models else None
    data["models"]["backend_key"] = key.get_secret_value() if key is not None else None
    redis_url = data["cluster"].pop("redis_url")
    if not secrets:
        data["signaling"].pop("secret")
        data["signaling"].pop("ice_servers")
        data["signaling"].pop("turn")
        return json.dumps(data)
    for section, values in (
        (settings.signaling, data["signaling"]),
        (settings.signaling.turn, data["signaling"]["turn"]),
    ):
        if section.secret is not None:
            values["secret"] = section.secret.get_secret_value()
    if redis_url is not None and settings.cluster.redis_url is not None:
        data["cluster"]["redis_url"] = settings.cluster.redis_url.get_secret_value()
    return json.dumps(data)


def shown(settings: Settings) -> str:
    """Settings as readable JSON without secrets."""
    data = settings.model_dump(mode="json")
    for server in data["signaling"]["ice_servers"]:
        if server["credential"]:
            server["credential"] = "**********"
    return json.dumps(data, indent=2)


def restore(line: bytes) -> Settings:
    """What `dump` wrote, exactly: neither environment nor files are read again."""
    data = json.loads(line)
    fields = {name: field.annotation for name, field in Settings.model_fields.items()}
    values = {
        name: annotation.model_validate(data[name])
        for name, annotation in fields.items()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel)
    }
    return Settings.model_construct(**{**data, "web_root": Path(data["web_root"]), **values})


def _environment_keys(environment: Mapping[str, str]) -> Iterator[str]:
    for name in environment:
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX).lower().replace(DELIMITER, ".")


def _file_keys(path: Path | None) -> Iterator[str]:
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    yield from _leaves(values, Settings)


def _section(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    field = model.model_fields.get(name)
    annotation = field.annotation if field is not None else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name in model.model_fields:
        if (section := _section(model, name)) is not None:
            yield from _keys(section, f"{prefix}{name}.")
        else:
            yield prefix + name


def _leaves(values: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and (section := _section(model, key)) is not None:
            yield from _leaves(value, section, f"{prefix}{key}.")
        else:
            yield prefix + key
