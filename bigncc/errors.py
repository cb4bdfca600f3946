"""What a user can do wrong or a machine can run out of, each with the exit code of the command line.

0 complete, 1 a bug, 2 incomplete, 3 refused, 4 bad input or usage, 5 does not fit, 75 stopped and resumable.
"""

LONGEST = 4000
"""Characters of a sentence: names that strangers gave may have millions."""


class BignccError(Exception):
    """A condition that one sentence explains; the command line prints it without a traceback.

    What is quoted in it may come from a stranger: characters that move a cursor, or cannot be written, are shown by
    their number.
    """

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class IncompleteError(BignccError):
    """Some tiles of the output have no value yet."""

    exit_code = 2


class RefusedError(BignccError):
    """The output belongs to something else, so nothing was touched."""

    exit_code = 3


class InputError(BignccError, ValueError):
    """An image, a transform or a parameter cannot be used as given."""

    exit_code = 4


class RegistrationError(InputError):
    """No transform can be estimated from the images, for a `reason`; the message says what to do instead."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason}: another model (registration.model=affine), --as-is (registration.model=none), a place to begin "
            "(registration.initial=metadata), a transform (registration.transform=FILE) or a displacement field "
            "(registration.displacement.url=FILE) is accepted"
        )


class DoesNotFitError(BignccError):
    """Memory or disk does not suffice."""

    exit_code = 5


class StoppedError(BignccError):
    """The run was stopped by a signal; running again continues it."""

    exit_code = 75
