"""See stages.py."""

from stages import Before as TritonPythonModel  # noqa: F401
