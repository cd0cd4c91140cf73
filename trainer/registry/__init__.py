"""The versions under MODELS_DIR.

A version is staged beside the others, verified and checked by the quality gate. If it passes, it is
promoted, which means that it is served; otherwise it is kept but not served. The served version is
the target of the link ``current``, which one atomic rename switches.

store               the directory of versions, its lock, and the renames that add a version and
                    switch ``current``
layout              moves the files of a staged version to where servers look for them
checksums           SHA-256 of a version's files: computed at publication, compared later
version_record      ``version.json``: a version's origin, gate results, checksums and promotions
quality_gate        checks the recall of the index, and quality against the served version
publication         builds, verifies, checks and promotes a new version
promotion           decides which version is served: promotes, rolls back, removes old versions
reevaluation        checks a stored version again
disk                durable writes, checksums of files, errors about full disks
"""
