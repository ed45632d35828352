"""How closely a value is tied to a person. In a module of its own, since the training worker reads it too."""

from typing import Literal

Pii = Literal["none", "pseudonymous", "personal"]
"""`pseudonymous`: names a person only to who holds the key list. `personal`: says who somebody is, or what they told of
themselves."""
