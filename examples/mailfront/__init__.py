"""A mail site's front: one user database, and the daemons that Postfix and nginx ask."""
