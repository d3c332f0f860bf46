"""The losses, one file each. A new one is a new file here and its test."""
