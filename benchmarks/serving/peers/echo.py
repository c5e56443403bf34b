"""The limit: a WSGI app that sends the body back."""


def app(environ, start_response):
    length = int(environ["CONTENT_LENGTH"])
    body = environ["wsgi.input"].read(length)
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(length))]
    )
    return [body]
