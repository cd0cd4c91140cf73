"""The trainer's command line, ``python -m trainer COMMAND``.

Every command is a module with a ``HELP`` sentence, ``add_arguments`` and ``run``. TensorFlow takes
seconds to import, so commands import it in ``run``, after everything that can be mistyped.

main          parses the arguments, dispatches to a command and reports its errors
arguments     arguments and value types that several commands share
training_data  the data and configuration arguments of ``run`` and ``tune``
run, index, refresh                       publish a new version
tune                                      searches for better settings
versions, promote, rollback, gc, verify   manage published versions
"""
