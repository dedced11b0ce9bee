"""`kft serve`."""

import click

from kft.serve.settings import Settings


@click.command(short_help="Answer over HTTP with an exported model.")
@click.argument("exported", type=click.Path())
@click.option(
    "--host", default=Settings.host, show_default=True, help="Address to listen on; 0.0.0.0 is all."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=Settings.port,
    show_default=True,
    help="Port; 0 takes a free one.",
)
@click.option("--name", help="The model's name in URLs.  [default: the folder's]")
@click.option(
    "--max-batch-size",
    type=click.IntRange(1),
    default=Settings.max_batch_size,
    show_default=True,
    help="Texts of one model call.",
)
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(0),
    default=Settings.max_delay_ms,
    show_default=True,
    help="How long an idle server waits for more texts.",
)
@click.option(
    "--queue-size",
    type=click.IntRange(1),
    default=Settings.queue_size,
    show_default=True,
    help="Texts that wait at most; more get 503.",
)
@click.option(
    "--max-body-bytes",
    type=click.IntRange(1),
    default=Settings.max_body_bytes,
    show_default=True,
    help="Longest body; longer ones get 413.",
)
@click.option(
    "--max-texts",
    type=click.IntRange(1),
    default=Settings.max_texts,
    show_default=True,
    help="Texts of a request; more get 413.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(0, min_open=True),
    default=Settings.timeout_seconds,
    show_default=True,
    help="For reading a request and for answering it.",
)
@click.option(
    "--poll-seconds",
    type=click.FloatRange(0.05),
    default=Settings.poll_seconds,
    show_default=True,
    help="Between two looks for a new version.",
)
def serve(exported, **options) -> None:
    """Answer over HTTP with EXPORTED, a folder of versions that `kft export --to savedmodel` made.

    Speaks TensorFlow Serving's REST interface, and shows a page to try the model. A new version in
    the folder replaces the one that is served. SIGTERM ends it when all that was accepted is
    answered. Where KFT_SERVE_TOKEN is set, callers must bring it as a bearer token.
    """
    from kft.serve import settings

    settings.check_packages()
    server_settings = Settings(**options, token=settings.token())
    from kft.serve import running

    running.serve(exported, server_settings)
