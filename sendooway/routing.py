"""Which smarthost the mails of a session go to, and the connection there: the one at hand, one that waits in the pool,
or a new one."""

from dataclasses import replace

from sendooway.early import EarlyDial, EarlyDials, Outcome
from sendooway.log import Log
from sendooway.net import tls
from sendooway.net.stream import Stopping, Stream
from sendooway.pool import Pool
from sendooway.privsep.client import Agent
from sendooway.privsep.messages import AccountFound, AccountMissing, LookUpFailed
from sendooway.smarthost import Smarthost, Wishes, connect
from sendooway.smtp.client import SmarthostError, Stage
from sendooway.smtp.reply import Reply, reply


class NoRoute(Exception):
    """A mail cannot be sent. `reply` is for the client; the cause is in the log already."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


class Routing:
    """The routing of one session in which `user` has logged in. It owns the smarthost at hand, which was used last."""

    def __init__(
        self,
        user: str,
        agent: Agent,
        pool: Pool,
        dials: EarlyDials | None,
        wishes: Wishes,
        client: Stream,
        log: Log,
    ) -> None:
        """`dials` is None where nothing is dialled early."""
        self._user = user
        self._agent = agent
        self._pool = pool
        self._dials = dials
        self.wishes = wishes  # for what is dialled from now on
        self._client = client
        self._log = log
        self._early: EarlyDial | None = None
        self._at_hand: Smarthost | None = None
        self._certain: str | None = None  # the sender whose mails go there as long as it is at hand

    def dial_early(self) -> None:
        """Make the smarthost of the user's last mail ready (see `early.py`), before the first mail of the session."""
        if self._dials is not None:
            self._early = self._dials.begin(self._user, self._agent, self.wishes, self._log)

    def reach(self, sender: str) -> Smarthost:
        """The smarthost of this sender (empty: the null reverse-path), ready for MAIL. It stays at hand.

        Raises NoRoute, AgentError, Stopping.
        """
        if self._early is not None:
            self._early.make_way(sender, self._client)
        if sender == self._certain and (ready := self._ready()):
            return ready
        account = self._look_up(sender)
        self._certain = sender if account.lasting else None
        if self._at_hand is not None and self._at_hand.account.number == account.number and (ready := self._ready()):
            return ready
        self.leave()
        self._at_hand = self._take(account) or self._connect(account, sender)
        return self._at_hand

    def cut(self) -> None:
        """Close the connection to the smarthost at hand at once, in the middle of a mail or of anything else."""
        if self._at_hand is not None:
            self._at_hand.cut()
            self._at_hand = None

    def leave(self) -> None:
        """No mail comes for the smarthost at hand: it goes to the pool, else it is quit."""
        smarthost, self._at_hand = self._at_hand, None
        if smarthost is None:
            return
        # RSET is asked even where no mail is left to forget: its answer proves that the connection is in step.
        smarthost.in_mail = True
        try:
            usable = smarthost.reset(self.wishes)
        except Stopping:
            usable = False
        mails = smarthost.mails  # somebody else's, once it is kept
        if usable and self._pool.keep(smarthost.account.fingerprint, smarthost):
            self._log.event(
                "smarthost-kept", smarthost=f"{smarthost.account.host}:{smarthost.account.port}", mails=mails
            )
        else:
            smarthost.quit()

    def leave_early(self) -> Outcome | None:
        """End early dialling, as the session is over. Returns what became of it; None: nothing was dialled."""
        return self._early.leave() if self._early is not None else None

    def _ready(self) -> Smarthost | None:
        """The smarthost at hand, if it takes one more mail; else it is quit, and None is returned."""
        if self._at_hand is not None and not self._at_hand.reset(self.wishes):
            # Not to be asked again: the reply that it owes us would be taken for another one.
            self._at_hand.quit()
            self._at_hand = None
        return self._at_hand

    def _look_up(self, sender: str) -> AccountFound:
        match self._agent.look_up(sender):
            case AccountFound() as account:
                return account
            case AccountMissing(searched):
                self._log.event("no-account", sender=f"<{sender}>", searched=" ".join(searched))
                where = ", ".join(searched) or "no file"
                raise NoRoute(reply(550, "5.7.1", f"No account for <{sender}>", f"searched: {where}"))
            case LookUpFailed(reason):
                self._log.error("look-up-failed", sender=f"<{sender}>", reason=reason)
                raise NoRoute(reply(451, "4.3.0", f"Cannot look up <{sender}>", reason))

    def _take(self, account: AccountFound) -> Smarthost | None:
        """Out of the pool."""
        kept = self._pool.take(account.fingerprint)
        if kept is not None:
            kept.account = account
            if self._early is not None:
                self._early.taken(account.fingerprint)
        return kept

    def _connect(self, account: AccountFound, sender: str) -> Smarthost:
        try:
            wishes = self._trusting(self._agent.take_ca()) if account.own_ca else self.wishes
            return connect(account, wishes, self._agent, self._log, self._client.stop)
        except SmarthostError as error:
            # The words of replies to AUTH stay out of the log: there are servers that repeat the password.
            said = error.reply
            logged = f"{said.code} {said.enhanced}".strip() if said and error.stage is Stage.LOGIN else said
            self._log.warning(
                "smarthost-failed",
                sender=f"<{sender}>",
                stage=error.stage.value,
                account=account.username or None,
                smarthost=f"{account.host}:{account.port}",
                origin=account.origin,
                reason=error.reason,
                reply=str(logged) if logged else None,
            )
            text = [f"{known_as(account)}: {error.stage.value}: {error.reason}"]
            if said is not None:
                text.append(f"it said: {said}")
            # Our trouble is never for ever: the client may try again.
            code, enhanced = (451, "4.4.1") if error.broken else (454, "4.7.0")
            raise NoRoute(reply(code, enhanced, *text)) from error

    def _trusting(self, ca: bytes | None) -> Wishes:
        """The wishes, with a file's contents as trusted certificates. Raises SmarthostError if there are none in it."""
        try:
            return replace(self.wishes, context=tls.client_context(ca or b""))
        except tls.TlsError as error:
            raise SmarthostError(Stage.TLS, str(error)) from error


def known_as(account: AccountFound) -> str:
    """What users are told of an account, as in `mx.example.org:587 (account alice, /home/alice/.fetchmailrc:3)`."""
    login = f"account {account.username}" if account.username else "account without login"
    return f"{account.host}:{account.port} ({login}, {account.origin})"
