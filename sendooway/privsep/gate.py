"""What an agent asks the monitor at each login: may it be checked now, and may one more session of this user begin?

The monitor sees all logins and remembers those that failed; the proxy is not asked, so it cannot lie about them.
"""

from sendooway.privsep.channel import Channel
from sendooway.privsep.messages import CheckEnded, CheckGranted, CheckPassed, CheckWanted, SessionVerdict

# The names of users have at most 256 octets; of what else was typed, so much tells it apart.
_MOST_NAME = 256


class Gate:
    """`channel` is None where no monitor is: one connection on standard input has nobody to share limits with.

    All methods raise ChannelClosed when the monitor is gone, and `wait` TimeoutError.
    """

    def __init__(self, channel: Channel | None) -> None:
        self._channel = channel

    def wait(self, user: str, proof: bytes, seconds: float) -> bool:
        """Until the login of `user`, as it was typed, may be checked; at most so many seconds.

        True: what the `proof` is of (see CheckWanted) was right a while ago.
        """
        if self._channel is None:
            return False
        self._channel.send(CheckWanted(user[:_MOST_NAME], proof))
        answer = self._channel.receive(frozenset({CheckGranted}), seconds)
        assert isinstance(answer, CheckGranted)
        return answer.remembered

    def failed(self, *, refused: bool) -> None:
        """The check is over. `refused`: it counts as a guess, other than where the back end is out of order."""
        if self._channel is not None:
            self._channel.send(CheckEnded(refused))

    def passed(self, user: str, seconds: float) -> bool:
        """The check has proved this to be `user`, as the system names it. False: there are too many sessions of it."""
        if self._channel is None:
            return True
        self._channel.send(CheckPassed(user))
        answer = self._channel.receive(frozenset({SessionVerdict}), seconds)
        assert isinstance(answer, SessionVerdict)
        return answer.granted

    def close(self) -> None:
        """Before the process belongs to the user, who has no say here."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
