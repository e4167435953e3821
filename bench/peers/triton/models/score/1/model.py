"""See whole.py."""

from whole import TritonPythonModel  # noqa: F401
