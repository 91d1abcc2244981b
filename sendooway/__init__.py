"""A multi-user, multi-target SMTP submission proxy: log in once, send as all of your identities."""

__version__ = "0.1.0"
