"""``jpegrad app``."""

from typing import Annotated

import typer

from jpegrad.commands.terminal import WrongOption, done


def app(
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 takes a free one.")] = 8017,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Look at the codec and its gradients on a local page; Ctrl-C ends it. Needs the extra `app`.

    The page is for this machine alone, and asks nothing of the network.
    """
    if not 0 <= port <= 65535:
        raise WrongOption(f"--port: expected 0 to 65535, got {port}")
    try:
        from jpegrad.app import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("", "jpegrad"):
            raise
        raise OSError(f"the page needs the package {error.name}: pip install 'jpegrad[app]'") from error
    listening = server.listen(port)
    done(f"http://{server.HOST}:{listening.getsockname()[1]}/ (Ctrl-C ends it)")
    server.serve(listening, browser)
