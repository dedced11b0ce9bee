"""The one exception of a request that is not answered: HTTP status and words for the caller."""


class Refused(Exception):
    """A request is refused; its caller gets the status and {"error": message}.

    Attributes:
        status: of HTTP, as TensorFlow Serving maps its own codes.
        headers: to send beside.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def bad(message: str) -> Refused:
    """400: the request is not what the interface takes."""
    return Refused(400, message)
