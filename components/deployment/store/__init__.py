"""The model store: immutable versions and movable aliases, in any folder or `gs://` prefix.

<store>/<name>/aliases.json                        which version `champion` is, and which `previous`
<store>/<name>/<yyyymmdd-hhmmss-digest>/           a version: the Model's files, and
                                       README.md       its model card
                                       version.json    its manifest, written last: without it there is no version
"""
