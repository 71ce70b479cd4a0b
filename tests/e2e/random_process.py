"""`candor.process` for models with random weights: every store opens them. Nothing of the product starts this."""

from models.store import Store

Store.__init__.__kwdefaults__["allow_random"] = True  # before anything that opens one is imported

from candor.process import main  # noqa: E402  # see above

main()
