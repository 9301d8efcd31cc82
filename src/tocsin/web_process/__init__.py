"""Pages and the API in a process of their own: what people look at never takes the interpreter from what pages them.

`process` is that process; `way` starts it, watches it, and hands it requests.
"""
