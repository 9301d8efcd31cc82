"""Builds TwiML responses (https://www.twilio.com/docs/voice/twiml) with the vendor's own library."""

from __future__ import annotations

import re

from tocsin.notify.interfaces import CallScript, Rendered
from tocsin.notify.webhooks import CallPrompt

#: In seconds: how long the call waits for a key after the last word.
KEY_TIMEOUT_SECONDS = 8

#: Characters that XML cannot contain, escaped or not (https://www.w3.org/TR/xml/#charsets). Twilio would read out an
#: error message instead.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def step(made: CallPrompt, action: str) -> str:
    """Returns one step of a call: the spoken text, and the URL that receives the pressed key."""
    # Imported on demand here and below: the library takes time and memory to load, and is needed only for calls.
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
        # Repeat the key menu once: the user may just have woken up.
        again = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
        again.say(made.script.menu, language=made.script.language)
        response.append(again)
    return _written(response)


def spoken_once(rendered: Rendered) -> str:
    """Returns a whole call without key input."""
    from twilio.twiml.voice_response import VoiceResponse

    response = VoiceResponse()
    script = rendered.script or CallScript("", rendered.text, "")
    _read(response, CallScript(script.greeting, script.said, "", script.language))
    return _written(response)


def text_answer(text: str) -> str:
    """Returns the reply to a text, or no reply if `text` is empty."""
    from twilio.twiml.messaging_response import MessagingResponse

    response = MessagingResponse()
    if text:
        response.message(text)
    return _written(response)


def _written(response: object) -> str:
    return _NO_XML.sub(" ", str(response))


def _read(verb: object, script: CallScript) -> None:
    """Adds the greeting, the problem twice, then the key menu."""
    say = verb.say  # type: ignore[attr-defined]
    if script.greeting:
        say(script.greeting, language=script.language)
    if script.said:
        say(script.said, language=script.language)
        verb.pause(length=1)  # type: ignore[attr-defined]
        say(script.said, language=script.language)
    if script.menu:
        say(script.menu, language=script.language)
