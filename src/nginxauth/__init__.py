"""nginx's mail ``auth_http`` protocol, both roles, without I/O.

`nginxauth.xclient` has the XCLIENT and XFORWARD commands that carry on what was learned by it.
"""
