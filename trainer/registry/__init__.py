"""The versions under MODELS_DIR.

A new version is built in a staging directory, verified, and checked by the quality gate. A version
that passes the gate is promoted, which means that it is served; any other version is stored but not
served. The link ``current`` points to the served version, and an atomic rename replaces the link.

store               the directory of versions, its lock, and the renames that add a version and
                    switch ``current``
layout              moves the files of a staged version to the paths where servers look for files
checksums           computes SHA-256 of a version's files at publication, and compares files later
version_record      ``version.json``: a version's origin, gate results, checksums and promotions
quality_gate        checks the recall of the index, and quality against the served version
publication         builds, verifies, checks and promotes a new version
promotion           decides which version is served: promotes, rolls back, removes old versions
reevaluation        checks a stored version again
disk                durable writes, file checksums, errors about full disks
"""
