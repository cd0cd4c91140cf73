"""The versions under MODELS_DIR.

A version is staged beside the others, verified and checked by the quality gate. If it passes, it is
promoted, which means that it is served; otherwise it is kept but not served. One atomic rename
changes the served version at any time.

store               the directory layout, the lock, and the atomic changes to them
layout              moves the files of a staged version to where servers look for them
checksums           SHA-256 of a version's files: computed at publication, compared later
version_record      ``version.json``: a version's origin, gate results, checksums and promotions
quality_gate        checks the recall of the index, and quality against the served version
publication         builds, verifies, checks and promotes a new version
promotion           changes which version is served: promote and roll back; removes old versions
reevaluation        checks a stored version again
disk                durable writes, checksums of files, errors about full disks
"""
