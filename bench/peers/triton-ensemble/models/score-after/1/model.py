"""See stages.py."""

from stages import After as TritonPythonModel  # noqa: F401
