"""The one error a user ever reads."""


class MotionError(ValueError):
    """Bad input, said in one plain sentence that names the fix."""
