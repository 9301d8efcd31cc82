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


def step(prompt: CallPrompt, action: str) -> str:
    """Returns one step of a call: the spoken text, and the URL that receives the pressed key."""
    # Imported on demand here and below: the library takes time and memory to load, and is needed only for calls.
    from twilio.twiml.voice_response import Gather, VoiceResponse

    response = VoiceResponse()
    if prompt.script is None and not prompt.pending_digit:
        if prompt.speech:
            response.say(prompt.speech, language=prompt.language)
        response.hangup()
        return _to_xml(response)
    gather = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
    if prompt.speech:
        gather.say(prompt.speech, language=prompt.language)
    if prompt.script is not None:
        _add_script(gather, prompt.script)
    response.append(gather)
    if prompt.script is not None and prompt.script.menu:
        # Repeat the key menu once: the user may just have woken up.
        repeated_menu = Gather(num_digits=1, timeout=KEY_TIMEOUT_SECONDS, action=action, method="POST")
        repeated_menu.say(prompt.script.menu, language=prompt.script.language)
        response.append(repeated_menu)
    return _to_xml(response)


def spoken_once(rendered: Rendered) -> str:
    """Returns a whole call without key input."""
    from twilio.twiml.voice_response import VoiceResponse

    response = VoiceResponse()
    script = rendered.script or CallScript("", rendered.text, "")
    _add_script(response, CallScript(script.greeting, script.message, "", script.language))
    return _to_xml(response)


def text_answer(text: str) -> str:
    """Returns the reply to a text, or no reply if `text` is empty."""
    from twilio.twiml.messaging_response import MessagingResponse

    response = MessagingResponse()
    if text:
        response.message(text)
    return _to_xml(response)


def _to_xml(response: object) -> str:
    return _NO_XML.sub(" ", str(response))


def _add_script(verb: object, script: CallScript) -> None:
    """Adds the greeting, the problem twice, then the key menu."""
    say = verb.say  # type: ignore[attr-defined]
    if script.greeting:
        say(script.greeting, language=script.language)
    if script.message:
        say(script.message, language=script.language)
        verb.pause(length=1)  # type: ignore[attr-defined]
        say(script.message, language=script.language)
    if script.menu:
        say(script.menu, language=script.language)
