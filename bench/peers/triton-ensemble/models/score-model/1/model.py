"""See stages.py."""

from stages import Model as TritonPythonModel  # noqa: F401
