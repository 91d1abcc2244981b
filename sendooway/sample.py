"""The configuration that `sendooway --print-config` prints: every keyword with its default, as a comment."""

SAMPLE = """\
# /etc/sendooway.conf: every keyword with its default. See sendooway.conf(5).
# One `keyword = value` a line; `#` starts a comment anywhere. The file belongs
# to root; with passwords in it nobody else may read it.

## Where clients connect

# ADDRESS:PORT or unix:PATH, with ` tls` behind it for TLS from the first octet.
# Repeatable. Without it, -b says where, or standard input is the connection.
#listen = *:587

# TCP balancers, as in 192.0.2.1 2001:db8::/64, apart by blanks: each connection
# from there begins with a header of the PROXY protocol. Repeatable.
#proxyTrust =

# How many processes share the work; without it one for each core, at most 8.
#workers = 2

# Seconds that logged-in connections to smarthosts wait for a user's next mail.
#smarthostIdle = 30

# After a login, log in at the smarthost of the user's last mail at once?
#dialEarly = no

# The user who speaks with the network; without it `sendooway`, else `nobody`.
#runAs =

# Our name in the greeting, in EHLO and in Received; without it the host's name.
#localname =

# Certificate chain and key in PEM. Without sslKey the key is in sslCert, too.
#sslCert =
#sslKey =

# Must clients use TLS to log in? `required`, `allowed` or `forbidden`. Without
# it: required, except on loopback, UNIX sockets and pipes.
#mailerEncryption = required

# 8BITMIME: `force` it upon smarthosts, `disable` or `ignore` it.
#ext8BitMime = force

# The longest message in octets, 0 for no limit; `disable` offers no SIZE.
#extMessageSize = 0

# Seconds to wait for the other side; without it each wait has its own limit.
#timeout = 300

## Who may log in

# `PAM`, `LDAP`, or `none` for the user who runs sendooway, whose password is
# then not checked.
#authBackend = PAM

# LDAP: the servers, as in ldaps://ldap.example.org, apart by blanks; the DN to
# bind as, as in uid=%u,ou=people,dc=example,dc=org; trusted certificates in
# PEM, without it those of sslCA.
#ldapUri =
#ldapAuthDN =
#ldapSSLca =

# Seconds for which PAM's yes to a password holds; 0: it is asked each time.
#authCache = 0

# A user, or the members of a %group. Repeatable; without it everyone.
#validUser =

# Mechanisms to offer, of GSSAPI, PLAIN and LOGIN. GSSAPI needs a keytab.
#authMechanisms = GSSAPI PLAIN LOGIN

# Kerberos: the keytab with the keys of smtp/HOST, without it the system's; does
# PAM have a say on accounts (without it: where it checks passwords); may we ask
# the KDC for tickets to smarthosts in the name of a client that delegates none?
#krb5Keytab =
#krb5PamAccount = yes
#krb5ConstrainedDelegation = no

## Limits

# Connections in each worker: in all, and of one client's address (IPv6: /64).
#maxSessions = 300
#maxSessionsPerClient = 50

# Connections of one user, this machine aside, and those on which nobody has
# logged in yet.
#maxSessionsPerUser = 20
#maxUnauthenticated = 100

# Passwords that are checked at the same time.
#maxLoginChecks = 10

# Failed logins of a connection, which ends it, and of an address or a user,
# whose next ones have to wait.
#maxFailedLogins = 5

# Faulty commands of a connection, which end it, and recipients of a mail.
#maxErrors = 20
#maxRecipients = 1000

# Seconds from the connection to the login, and until the next mail.
#loginTimeout = 120
#idleTimeout = 1800

## Accounts

# SOURCE:ARGUMENT, repeatable; %u is the user's name, %h the home folder.
#smarthostMapping = getmail:%h/.getmail/getmailrc
#smarthostMapping = fetchmail:%h/.fetchmailrc

# The user's own settings and mappings, as in %h/.sendoowayrc.
#userInclude =

## Smarthosts

# Look for the smarthost of a mailbox that has none, by what its domain says?
#guessAccounts = no

# Say EHLO with the client's own name?
#cloneEhlo = no

# Add a Received line to each message?
#addReceivedField = yes

# Trusted certificates in PEM; without it those of the system.
#sslCA =

# Mechanisms: `ifAdvertised`, `alwaysTry` or `never`.
#smarthostGssapi = ifAdvertised
#smarthostPlain = ifAdvertised
#smarthostLogin = ifAdvertised
#smarthostCramMD5 = ifAdvertised

# Kerberos: a keytab to get tickets with, for accounts marked `gssapi`.
#krb5ClientKeytab =
"""
