"""The machine itself: its folders and the environment of what is started in it."""

from chalicelib.dialect import Body, Relay, Route, list_of, text, texts

INFO = Relay("GET", "/info")

ENV: Body = {"set": ("set", texts), "unset": ("unset", list_of(text))}

ROWS = (
    Route("GET", "/user-home-dir", INFO, {"dir": "home"}),
    Route("GET", "/work-dir", INFO, {"dir": "work_dir"}),
    Route("GET", "/project-dir", INFO, {"dir": "work_dir"}),
    Route("POST", "/env", Relay("PATCH", "/env", receive="nothing"), body=ENV),
)
