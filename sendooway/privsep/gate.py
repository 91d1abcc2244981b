"""What an agent asks the monitor at each login: may it be checked now, and may one more session of this user begin?

The monitor sees all logins and remembers those that failed; the proxy is not asked, so it cannot lie about them.
"""

from sendooway.auth.identity import Identity
from sendooway.privsep import channel
from sendooway.privsep.channel import Channel
from sendooway.privsep.messages import (
    CheckEnded,
    CheckGranted,
    CheckPassed,
    CheckWanted,
    LoginGiven,
    SessionVerdict,
)
from sendooway.privsep.visit import Visit

# The names of users have at most 256 octets; of what else was typed, so much tells it apart.
_MAX_NAME = 256


class Gate:
    """`monitor` is None where there is none: one connection on standard input has nobody to share limits with.

    All methods raise ChannelClosed when the monitor is gone, and `wait` TimeoutError.
    """

    def __init__(self, monitor: Channel | None) -> None:
        self._channel = monitor

    def wait(self, user: str, proof: bytes, seconds: float) -> bool:
        """Wait until the login of `user`, as it was typed, may be checked; at most so many seconds.

        True: the password was right a while ago, so the back end need not be asked (for `proof` see CheckWanted).
        """
        if self._channel is None:
            return False
        self._channel.send(CheckWanted(user[:_MAX_NAME], proof))
        answer = self._channel.receive(frozenset({CheckGranted}), seconds)
        assert isinstance(answer, CheckGranted)
        return answer.remembered

    def failed(self, *, refused: bool) -> None:
        """The check is over. `refused`: it counts as a guess, other than where the back end is out of order."""
        if self._channel is not None:
            self._channel.send(CheckEnded(refused))

    def passed(self, identity: Identity, mechanism: str, session: Channel | None, seconds: float) -> SessionVerdict:
        """The check has proved this identity. May its session begin, and here?

        `session` is the channel that another agent of this user may get instead; None: nobody else can have it.
        """
        if self._channel is None:
            return SessionVerdict(granted=True)
        self._channel.send(
            CheckPassed(identity.name, identity.uid, identity.gid, identity.home, mechanism),
            () if session is None else (session.fileno(),),
        )
        answer = self._channel.receive(frozenset({SessionVerdict}), seconds)
        assert isinstance(answer, SessionVerdict)
        return answer

    def next_login(self) -> tuple[Channel, Visit]:
        """Another session in which somebody wants to log in, after the last one was given away."""
        assert self._channel is not None  # else nothing is given away
        message, descriptors = self._channel.receive_descriptors(frozenset({LoginGiven}), None, 1)
        assert isinstance(message, LoginGiven)
        return channel.given(descriptors), Visit(message.session, message.client)

    def leave(self, *, further: bool) -> Channel | None:
        """Ask nothing any more: the process becomes the user, who has no say in logins.

        Returns the channel through which the monitor gives it `further` sessions; None if there will be none.
        """
        monitor, self._channel = self._channel, None
        if monitor is not None and not further:
            monitor.close()
            return None
        return monitor
