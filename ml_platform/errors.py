"""The one shape of every error a user of the platform can cause: what happened, where, and what to do next."""


class PlatformError(Exception):
    """What went wrong, where, and the next step. Every typed error of the platform derives from it."""

    def __init__(self, what: str, *, where: object = "", next_step: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.next_step = next_step
        super().__init__(what, self.where, next_step)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        remedy = f" Next: {self.next_step}" if self.next_step else ""
        return f"{self.what}{place}{remedy}"


class ConfigurationError(PlatformError):
    """The environment or a declaration says something that cannot hold."""
