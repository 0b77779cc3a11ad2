"""The images that components name, until compilation or submission replaces them with real ones."""

# "python" in the name keeps kfp.local from warning about a non-Python base image.
COMPONENT_IMAGE = "kfp-transformers-python:0.1.0"
# A user's own image with the programs `train` and `predict`: the run's parameter `training_image` takes its place.
TRAINING_IMAGE = "kfp-transformers-training:named-by-the-run"
