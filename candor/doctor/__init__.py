"""`candor doctor`: what on this machine would keep a meeting from working, each line with what helps.

It changes nothing and needs no root, before the first start and beside a running server alike. `--from-outside URL`, on another
computer, looks at a server as a client sees it.
"""
