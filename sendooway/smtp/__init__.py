"""SMTP (RFC 5321) without I/O: octets in, octets or values out.

Nothing here knows a socket, a clock, a thread or a log; `session.py` turns what it says into effects.
"""
