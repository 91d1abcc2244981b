"""Sockets, TLS and waiting. Nothing here knows SMTP but the pump, which is given a relay."""
