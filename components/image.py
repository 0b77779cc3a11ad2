"""The image that every component names, until compilation or submission replaces it with a real one."""

# "python" in the name keeps kfp.local from warning about a non-Python base image.
COMPONENT_IMAGE = "kfp-transformers-python:0.1.0"
