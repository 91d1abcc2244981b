"""LDAP, as much of it as a login needs: a simple bind, and reading the entry of who has bound."""
