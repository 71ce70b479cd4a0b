"""Processors of sound, and the models of ONNX Runtime that they run in their own process."""

import os

# From 1.29 on the Linux builds of ONNX Runtime tell their maker which models run where, under an id that they keep in the home
# directory. Read when it is imported, so it is set before any module of this package can import it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
