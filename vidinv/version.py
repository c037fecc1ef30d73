"""The version, in a file that imports nothing: whoever needs it does not start the package."""

__version__ = "0.1.0"
