"""What Tocsin says to Twilio in TwiML (https://www.twilio.com/docs/voice/twiml): built by the vendor's own library."""

from __future__ import annotations

import re

from tocsin.notify.interfaces import CallScript, Rendered
from tocsin.notify.webhooks import CallPrompt

#: In seconds: so long a key is awaited after the last word.
KEY_TIMEOUT_SECONDS = 8

#: What no XML can hold, escaped or not (https://www.w3.org/TR/xml/#charsets): Twilio reads out that there is an error.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def step(made: CallPrompt, action: str) -> str:
    """A step of a call: what is said, and where a pressed key goes."""
    # Here and below: the library takes a while to load and some memory, and is needed where calls are made only.
    from twilio.twiml.voice_response import Gather, VoiceResponse

    response = VoiceResponse()
    if made.script is None and not made.asked:
        if made.say:
            response.say(made.say, language=made.language)
        response.hangup()
        return _written(response)
    gather = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
    if made.say:
        gather.say(made.say, language=made.language)
    if made.script is not None:
        _read(gather, made.script)
    response.append(gather)
    if made.script is not None and made.script.menu:
        # Whoever was asleep a minute ago gets the keys said once more.
        again = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
        again.say(made.script.menu, language=made.script.language)
        response.append(again)
    return _written(response)


def spoken_once(rendered: Rendered) -> str:
    """A whole call that nobody can answer."""
    from twilio.twiml.voice_response import VoiceResponse

    response = VoiceResponse()
    script = rendered.script or CallScript("", rendered.text, "")
    _read(response, CallScript(script.greeting, script.said, "", script.language))
    return _written(response)


def text_answer(text: str) -> str:
    """The answer to a text; none for an empty one."""
    from twilio.twiml.messaging_response import MessagingResponse

    response = MessagingResponse()
    if text:
        response.message(text)
    return _written(response)


def _written(response: object) -> str:
    return _NO_XML.sub(" ", str(response))


def _read(verb: object, script: CallScript) -> None:
    """The greeting, what is wrong twice, then the keys."""
    say = verb.say  # type: ignore[attr-defined]
    if script.greeting:
        say(script.greeting, language=script.language)
    if script.said:
        say(script.said, language=script.language)
        verb.pause(length=1)  # type: ignore[attr-defined]
        say(script.said, language=script.language)
    if script.menu:
        say(script.menu, language=script.language)
