"""The model service: the engine's models over HTTP, for platform teams and other programs."""
