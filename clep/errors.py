"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a config value, an option.

    Its message names the file, the key and the remedy. Command lines print it without a traceback and exit with status
    1.
    """
