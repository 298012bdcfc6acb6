"""What a mistake must give: an exception of one sentence."""

import pytest


def check_refused(call, error, words):
    """`call` raises `error`, in one line that says all the words."""
    with pytest.raises(error) as raised:
        call()
    message = str(raised.value)
    assert "\n" not in message and all(word in message for word in words), message
