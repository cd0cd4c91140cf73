"""The versions under MODELS_DIR.

A version is staged beside the others, verified, judged by the quality gate, and then promoted, so
that it is served, or kept unserved. Which version is served can be changed at any time by one
atomic rename.

store               the directory layout, the lock, and the atomic changes to them
layout              the files of a staged version, moved to where servers look for them
checksums           SHA-256 of a version's files: computed at publication, compared later
version_record      ``version.json``: what a version is, how it was judged, when it was served
quality_gate        recall of the index, and quality beside the version that is served
publication         from a built model to a promoted version
promotion           which version is served: promote and roll back
garbage_collection  removes old versions
reevaluation        checks a stored version again
disk                durable writes, checksums of files, errors about full disks
"""
