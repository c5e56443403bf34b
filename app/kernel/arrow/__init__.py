"""Arrow's IPC streams of flat columns, read and written with numpy alone.

No native code sees what a client sent: offsets and lengths are compared with the bytes that there
are before numpy is asked to look at them. ``flatbuffer`` takes the metadata apart and makes it,
``schema`` tells the types of columns, ``texts`` reads texts, ``stream`` reads all of a stream,
``writer`` writes one.
"""
