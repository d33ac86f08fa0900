"""syncd keeps the listed files and folders of GitHub repositories equal on this machine."""

__version__ = "0.1.0"
