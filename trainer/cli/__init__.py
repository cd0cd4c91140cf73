"""The trainer's command line, ``python -m trainer COMMAND``.

Every command has a module of the same name with a ``HELP`` sentence, ``add_arguments(parser)`` and
``run(arguments, console)``, which raises TrainerError or OSError if it fails. TensorFlow takes
seconds to import, so commands import it in ``run``, after checking everything that can be mistyped.

main            parses the arguments, dispatches to a command and reports its errors
arguments       arguments and value types that several commands share
training_data   the data and configuration arguments of ``run`` and ``tune``

run, index, refresh                       publish a new version
tune                                      searches for better settings
versions, promote, rollback, gc, verify   manage published versions
"""
