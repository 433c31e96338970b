"""The error tree: each class carries the exit status and the code users see.

Raises nothing by itself and never logs: callers raise where the cause is known
and the API border translates once.
"""


class DorabatchError(Exception):
    """Something went wrong."""

    exit_status = 1
    code = "Error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__ or self.code)

    @property
    def message(self) -> str:
        """The sentence for the user."""
        return str(self.args[0])


class UserError(DorabatchError):
    """The request cannot be accepted as it stands."""

    exit_status = 2
    code = "BadRequest"


class ManifestError(UserError):
    """A document does not describe a kind: names path, line and field."""

    code = "BadManifest"

    def __init__(
        self, problem: str, *, path: str = "", line: int | None = None, field: str = ""
    ) -> None:
        where = ":".join(str(part) for part in (path, line) if part)
        head = ": ".join(part for part in (where, field) if part)
        super().__init__(f"{head}: {problem}" if head else problem)
        self.problem = problem
        self.path = path
        self.line = line
        self.field = field


class NotAllowed(UserError):
    """The caller has no right to do this."""

    code = "NotAllowed"


class NotFound(UserError):
    """No object of that name exists."""

    code = "NotFound"


class Refused(UserError):
    """The workload can never run here as it stands."""

    code = "Refused"


class ConflictError(DorabatchError):
    """The record changed in between; try again from a fresh snapshot."""

    exit_status = 3
    code = "Conflict"


class LeaseLost(ConflictError):
    """Another worker owns this record now."""

    code = "LeaseLost"


class AlreadyFinished(ConflictError):
    """The workload has already ended."""

    code = "AlreadyFinished"


class NodeError(DorabatchError):
    """A node did not do what it was asked to."""

    exit_status = 4
    code = "NodeError"


class NodeUnreachable(NodeError):
    """The node does not answer."""

    code = "NodeUnreachable"


class HostKeyChanged(NodeError):
    """The node presents another SSH host key than the pinned one."""

    code = "HostKeyChanged"


class NodeAuthRefused(NodeError):
    """The node refuses the daemon's SSH key."""

    code = "NodeAuthRefused"


class ImagePullFailed(NodeError):
    """The image could not be pulled."""

    code = "ImagePullFailed"


class RegistrySilent(ImagePullFailed):
    """The image's registry does not answer."""

    code = "RegistrySilent"


class StartFailed(NodeError):
    """The container could not be created or started."""

    code = "StartFailed"


class ConfigError(DorabatchError):
    """A setting is wrong; names file, key, value and what is allowed."""

    exit_status = 5
    code = "BadConfig"


class DaemonUnavailable(DorabatchError):
    """The daemon does not answer."""

    exit_status = 6
    code = "DaemonUnavailable"


class DaemonBusy(DaemonUnavailable):
    """The daemon has as much open as it may; nothing was done."""

    code = "DaemonBusy"


class TooMuchOpen(DorabatchError):
    """One user has as much open at the daemon as one may; nothing was done."""

    exit_status = 6
    code = "TooMuchOpen"


class RequestTooLate(DorabatchError):
    """A request did not come in time."""

    exit_status = 6
    code = "RequestTooLate"


class HeadTooLarge(UserError):
    """A request's line or headers are larger than this daemon takes."""

    code = "HeadTooLarge"


class InvariantError(DorabatchError):
    """A bug: something that must hold does not."""

    exit_status = 70
    code = "Bug"


def invariant(condition: bool, message: str) -> None:
    """Stop with InvariantError unless the condition holds."""
    if not condition:
        raise InvariantError(message)
